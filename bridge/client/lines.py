"""The two ways to a Realtime server: a WebRTC peer with a data channel, and a WebSocket that also carries the sound.

``open`` connects a line, and hangs it up at the end of its block. The line reports to its owner what happens on it.
``speak`` plays sound in real time, and then silence for as long as it is wanted: by that a server's turn detection
finds the end of the turn.
"""

import asyncio
import json
from binascii import a2b_base64, b2a_base64
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext, suppress
from typing import Any, Protocol

from msgspec.structs import asdict
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from bridge.client.address import Address, CallFailed, authorization, explain, post_offer
from bridge.client.sound import BYTES_PER_MS
from bridge.errors import BridgeError
from bridge.media.playback import Part, Played, Stopped
from bridge.webrtc.dial import dial
from bridge.webrtc.ice_full import IceFull, IceServers
from bridge.webrtc.peer import Peer
from bridge.webrtc.runner import PeerClock, PeerRunner
from bridge.wire.message import EncodedMessage

__all__ = ["ClientLine", "ClientLineOwner", "SocketLine", "ClientWebRtcLine", "new_runner", "open_socket"]

_OPEN_TIMEOUT_S = 15.0
_CLOSE_TIMEOUT_S = 2.0
_MAX_MESSAGE_BYTES = 16 * 1024 * 1024
_SPEECH, _SILENCE = Part("speech", "", 0, 0), Part("silence", "", 0, 0)
_FRAME_MS = 20
_SILENCE_MS = 400  # that are queued at a time
_POLL_S = 0.05
_DELTAS = ("response.output_audio.delta", "response.audio.delta")


class ClientLineOwner(Protocol):
    """The owner of a line, which the line reports to."""

    def receive_event(self, event: dict[str, Any]) -> None:
        """A server event came."""
        ...

    def receive_audio(self, pcm: bytes) -> None:
        """Sound came, as PCM16 24 kHz mono."""
        ...

    def speaking(self, spoken_ms: int) -> None:
        """This much of the sound has been spoken."""
        ...

    def spoken(self) -> None:
        """All of the sound has been spoken."""
        ...

    def wants_silence(self) -> bool:
        """Returns whether the server still has to hear that the caller is silent."""
        ...

    def line_lost(self, message: str, code: str) -> None:
        """The line is down, although nobody here has closed it; ``code`` is a slug that says why."""
        ...


class ClientLine(Protocol):
    """A line to a Realtime server, of either kind."""

    is_paced: bool
    """Whether sound arrives as it is played."""
    call_id: str | None
    """The server's id of this call, by which others can join it."""
    requested_at: float
    """The time at which the first request left."""

    def open(self, address: Address, api_key: str | None, *, sound_s: float) -> AbstractAsyncContextManager[None]:
        """Connects, and hangs up at the end of the block; raises ``CallFailed``."""
        ...

    async def read(self) -> None:
        """Reports what comes, until the line ends."""
        ...

    async def send_client_event(self, event: dict[str, Any]) -> None:
        """Sends a client event. If the line is down, it does nothing."""
        ...

    async def play_caller_audio(self, pcm: bytes, rest: bytes) -> None:
        """Plays ``pcm`` and the ``rest`` behind it, and then silence until it is cancelled."""
        ...

    def describe(self) -> dict[str, Any]:
        """Returns figures of the media, if there are any."""
        ...


class _Sink(Protocol):
    def send_message(self, message: EncodedMessage) -> None: ...


def new_runner() -> PeerRunner:
    """Returns a runner that drives the peers of any number of ``ClientWebRtcLine``s from one clock."""
    return PeerRunner(connect_timeout_s=_OPEN_TIMEOUT_S, close_deadline_s=_CLOSE_TIMEOUT_S)


class ClientWebRtcLine:
    """A peer like those that the bridge serves, but one that calls. Without a ``runner`` it has one of its own."""

    is_paced = True

    def __init__(
        self,
        owner: ClientLineOwner,
        runner: PeerRunner | None = None,
        *,
        see_answer: Callable[[bytes], None] | None = None,
        new_agent: Callable[[IceServers | None], IceFull] = IceFull,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """``see_answer`` is called with the answer's SDP; ``new_agent`` makes the ICE agent that sends the packets.

        ``headers`` go with the offer, in addition to the key.
        """
        self.call_id: str | None = None
        self.requested_at = 0.0
        self._owner = owner
        self._runner = runner
        self._clock: PeerClock | None = None
        self._see_answer = see_answer
        self._new_agent = new_agent
        self._headers = headers
        self._peer: Peer | None = None
        self._sink: _Sink | None = None
        self._lost = ""
        self._is_settled = asyncio.Event()

    @asynccontextmanager
    async def open(self, address: Address, api_key: str | None, *, sound_s: float) -> AsyncIterator[None]:
        """Offers, connects and opens the data channel; hangs up at the end. Raises ``CallFailed``."""

        async def signal(sdp: str) -> bytes:
            self.requested_at = asyncio.get_running_loop().time()
            answer, self.call_id = await asyncio.to_thread(
                post_offer,
                address.calls,
                sdp,
                api_key=api_key,
                timeout_s=_OPEN_TIMEOUT_S,
                headers=self._headers,
            )
            if self._see_answer is not None:
                self._see_answer(answer)
            return answer

        async with nullcontext(self._runner) if self._runner is not None else new_runner() as runner:
            self._clock = runner.clock
            try:
                limit_s = int(sound_s) + 10
                async with dial(runner, self, signal, queue_limit_s=limit_s, new_agent=self._new_agent) as self._peer:
                    await self._wait_open()
                    yield
            except CallFailed:
                raise
            except BridgeError as error:
                raise CallFailed(f"The server's answer cannot be used: {error.message}", code="bad_answer") from None

    @property
    def stood_still_ms(self) -> int:
        """How long this process has stood still since the call began: the pauses that this made in what is spoken."""
        return 0 if self._clock is None else self._clock.late_ticks * _FRAME_MS

    async def read(self) -> None:
        """Returns at once, because the peer reports by itself."""

    async def send_client_event(self, event: dict[str, Any]) -> None:
        """Sends a client event over the data channel."""
        self.send_text(json.dumps(event).encode())

    def send_text(self, text: bytes) -> None:
        """Sends a text over the data channel, as it is."""
        if self._sink is not None:
            self._sink.send_message(EncodedMessage(text))

    async def play_caller_audio(self, pcm: bytes, rest: bytes) -> None:
        """Hands all of the sound to the peer, which plays it in real time, and then silence as long as it is wanted."""
        peer = self._peer
        assert peer is not None
        rest += bytes(_FRAME_MS * BYTES_PER_MS)  # a frame of silence ends the speech
        given_ms = (len(pcm) + len(rest)) // BYTES_PER_MS
        peer.play(_SPEECH, pcm)
        peer.play(_SILENCE, rest)
        while True:
            queued_ms = peer.rtp.outbound.playback.queued_ms
            self._owner.speaking(min(given_ms - queued_ms, len(pcm) // BYTES_PER_MS))
            if self._owner.wants_silence() and queued_ms < _SILENCE_MS // 2:
                peer.play(_SILENCE, bytes(_SILENCE_MS * BYTES_PER_MS))
                given_ms += _SILENCE_MS
            await asyncio.sleep(_POLL_S)

    def describe(self) -> dict[str, Any]:
        """Returns the peer's figures."""
        return {} if self._peer is None else asdict(self._peer.stats())

    # The peer's reports

    def leg_connected(self) -> None:
        """Notes that sound can flow. The data channel is not open yet."""

    def receive_leg_audio(self, pcm: bytes) -> None:
        """Takes the answer's sound, and the silence around it."""
        self._owner.receive_audio(pcm)

    def channel_opened(self, sink: _Sink) -> None:
        """Notes that events can flow, too."""
        self._sink = sink
        self._is_settled.set()

    def receive_leg_text(self, text: str) -> None:
        """Takes a server event that came over the data channel."""
        _report(self._owner, text)

    def played(self, event: Played) -> None:
        """Notes that the last of the speech has been sent."""
        if event == Stopped(_SPEECH.response_id):
            self._owner.spoken()

    def leg_closed(self, reason: str, error: BridgeError | None) -> None:
        """Notes that the peer is gone, because we hung up or for another reason."""
        if reason == "caller_closed":
            return
        self._lost = error.message if error is not None else reason.replace("_", " ")
        if self._is_settled.is_set():
            self._owner.line_lost(f"The call was lost: {self._lost}.", reason)
        self._is_settled.set()

    async def _wait_open(self) -> None:
        try:
            async with asyncio.timeout(_OPEN_TIMEOUT_S):
                await self._is_settled.wait()
        except TimeoutError:
            self._lost = "the data channel did not open"
        if self._lost:
            raise CallFailed(
                f"The server answered, but no media came through ({self._lost}): is UDP blocked by a firewall, or "
                "does the server advertise an address that cannot be reached from here (bridge serve --advertise)?",
                code="no_media",
            )


class SocketLine:
    """A WebSocket with a session of its own. Sound travels in events, and an answer comes faster than it is spoken."""

    is_paced = False

    def __init__(self, owner: ClientLineOwner, headers: Mapping[str, str] | None = None) -> None:
        """``headers`` go with the request, in addition to the key."""
        self.call_id: str | None = None
        self.requested_at = 0.0
        self._owner = owner
        self._headers = headers

    @asynccontextmanager
    async def open(self, address: Address, api_key: str | None, *, sound_s: float) -> AsyncIterator[None]:
        """Connects and waits for the session; closes at the end. Raises ``CallFailed``."""
        self.requested_at = asyncio.get_running_loop().time()
        async with await open_socket(address.socket, api_key, headers=self._headers) as self._socket:
            try:
                async with asyncio.timeout(_OPEN_TIMEOUT_S):
                    while _report(self._owner, await self._socket.recv()) != "session.created":
                        pass
            except TimeoutError:
                raise CallFailed(
                    "The server opened no session: it accepts WebSockets, but is it a Realtime API?", code="no_session"
                ) from None
            except ConnectionClosed as closed:
                words = f"The server closed the socket at once ({_reason(closed)})."
                raise CallFailed(words, code=_slug(closed)) from None
            try:
                yield
            finally:
                await self._socket.close()  # with code 1000: a caller that is interrupted hangs up as usual, too

    async def read(self) -> None:
        """Reports what comes, until the socket closes."""
        try:
            while True:
                _report(self._owner, await self._socket.recv())
        except ConnectionClosed as closed:
            self._owner.line_lost(f"The server closed the socket ({_reason(closed)}).", _slug(closed))

    async def send_client_event(self, event: dict[str, Any]) -> None:
        """Sends a client event. If the socket is closed, ``read`` says so."""
        with suppress(ConnectionClosed):
            await self._socket.send(json.dumps(event))

    async def play_caller_audio(self, pcm: bytes, rest: bytes) -> None:
        """Appends 20 ms of sound each 20 ms, as a microphone would, and then silence as long as it is wanted."""
        clock = asyncio.get_running_loop().time
        sound, at, size = pcm + rest, 0, _FRAME_MS * BYTES_PER_MS
        due = clock()
        while True:
            due += _FRAME_MS / 1000
            await asyncio.sleep(due - clock())
            frame = sound[at : at + size] or (bytes(size) if self._owner.wants_silence() else b"")
            if frame:
                audio = b2a_base64(frame, newline=False).decode()
                await self.send_client_event({"type": "input_audio_buffer.append", "audio": audio})
            if at < len(pcm):
                self._owner.speaking(min(at + size, len(pcm)) // BYTES_PER_MS)
                if at + size >= len(pcm):
                    self._owner.spoken()
            at = min(at + size, len(sound))

    def describe(self) -> dict[str, Any]:
        """Returns no figures, because a socket has no packets."""
        return {}


class _Connect(connect):
    """Refuses redirects, which would take the key elsewhere."""

    def process_redirect(self, exc: Exception) -> Exception | str:
        return exc


async def open_socket(
    url: str, api_key: str | None, *, headers: Mapping[str, str] | None = None, subprotocols: Sequence[str] = ()
) -> ClientConnection:
    """Opens a WebSocket to ``url``; raises ``CallFailed``."""
    try:
        return await _Connect(
            url,
            additional_headers={**authorization(api_key), **(headers or {})},
            subprotocols=[Subprotocol(name) for name in subprotocols] or None,
            compression=None,
            max_size=_MAX_MESSAGE_BYTES,
            open_timeout=_OPEN_TIMEOUT_S,
            close_timeout=_CLOSE_TIMEOUT_S,
            proxy=None,
        )
    except Exception as error:
        raise explain(error, url) from None


def _report(owner: ClientLineOwner, text: str | bytes) -> str:
    """Hands a server event to the owner, its sound separately, and returns its type. It skips what is no event."""
    try:
        event = json.loads(text)
        kind = event["type"]
        sound = a2b_base64(event["delta"]) if kind in _DELTAS else b""
    except (ValueError, KeyError, TypeError):
        return ""
    if not isinstance(kind, str):
        return ""
    owner.receive_event(event)
    if sound:
        owner.receive_audio(sound)
    return kind


def _reason(closed: ConnectionClosed) -> str:
    frame = closed.rcvd
    return f"{frame.code} {frame.reason}".strip() if frame is not None else "without a word"


def _slug(closed: ConnectionClosed) -> str:
    return "lost" if closed.rcvd is None else f"closed_{closed.rcvd.code}"
