"""One call whose client speaks Live: its connections, its time, and its sound; inside it is a session like any other.

    primary WebSocket ──leg──▶ session ◀──leg── WebRTC peer, telephone
                                  │ events, as GA has them
    data channel, sidebands ◀── mind ──▶ what clients say

The primary WebSocket, or the WebRTC peer, is the leg of the session. So what it has played, where an answer was cut,
who listens and what is recorded is as in every call. A ``LiveMind`` turns one protocol's events into the other's.
"""

import asyncio
import binascii
from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from bridge.errors import BadEvent, BridgeError, UpstreamError
from bridge.live.audience import LiveAudience, named
from bridge.live.connection import LiveConnection
from bridge.live.contracts import LiveMind
from bridge.live.leg import LiveLeg, LivePort
from bridge.live.realtime_mind import RealtimeMind
from bridge.live.relay_mind import RelayMind
from bridge.live.sound import LiveSound, PrimaryOutput
from bridge.live.timeline import Timeline
from bridge.media.contracts import PhoneOwner, Sink
from bridge.media.playback import Part
from bridge.session.fanout.backlog import Limits
from bridge.session.fanout.subscription import TrackName
from bridge.session.session import Session
from bridge.wire import server_events as server
from bridge.wire.audio import PCM16, AudioFormat
from bridge.wire.client_events import id_in
from bridge.wire.live.client_events import (
    APPEND,
    KEY,
    DtmfSend,
    LiveBearer,
    LiveMessage,
    read_live_event,
    read_live_message,
)
from bridge.wire.live.server_events import DtmfReceived, Info, LiveDtmfSent, live_error
from bridge.wire.live.sessions import DataChannel, LiveAudio, LiveClient, LiveSession, format_of_live
from bridge.wire.server_events import Body
from bridge.wire.stats import ListenerRole, ListenerStats

__all__ = ["LiveCall", "PLAYED_HERE"]

PLAYED_HERE = Part("live", "live", 0, 0)
"""Stands for all sound of a leg that keeps its own ledger."""

_OUTPUT: tuple[TrackName, ...] = ("output",)
_INVALID_DATA = 1007
_NORMAL = 1000
_MAX_APPEND_CHARS = 20 * 1024 * 1024  # 15 MiB as base64
_REASONS = {
    "close_requested": "close_requested",
    "hangup": "close_requested",
    "referred": "close_requested",
    "session_expired": "expired",
    "client_closed": "remote_hangup",
    "caller_hung_up": "remote_hangup",
    "peer_closed": "remote_hangup",
}


class LiveCall:
    """See the module; a ``Consumer`` of its session, and the ``PortOwner`` of its leg's port.

    ``asked`` is what the client has asked for, which is None if a service that speaks Live judges it. ``on_over`` is
    called when nobody needs the call any more.
    """

    def __init__(
        self,
        session: Session,
        asked: LiveSession | None,
        *,
        limits: Limits,
        clock: Callable[[], float],
        is_socket: bool,
        on_over: Callable[["LiveCall"], None],
    ) -> None:
        self.session = session
        self.asked = asked
        self.is_muted = False
        self.audience = LiveAudience(session.info.id)
        self._limits = limits
        self._is_socket = is_socket
        self.begun = asyncio.Event()
        """Set as soon as the session has begun, or has ended before."""
        self.failure: BridgeError | None = None
        """What kept the session from beginning."""
        self._on_over = on_over
        self._timeline = Timeline(clock, on_start=self.begun.set)
        self._sound = LiveSound(self.audience, self._timeline)
        self._leg: LiveLeg | None = None
        self._channel: LiveConnection | None = None
        self._port: LivePort | None = None
        self._mind: LiveMind = self._new_mind()

    def _new_mind(self) -> LiveMind:
        passage = self.session.upstream.live_passage
        if passage is not None or self.asked is None:
            if passage is None:
                raise UpstreamError("This call's upstream does not speak Live.", code="upstream_protocol")
            return RelayMind(
                passage,
                self.session.info.id,
                self.audience,
                self._timeline,
                on_activity=self.session.lifetime.touch,
            )
        return RealtimeMind(
            self.session,
            self.asked,
            self.audience,
            self._timeline,
            is_socket=self._is_socket,
            on_mute=self.mute,
            on_words=self._sound.playout.say,
        )

    def follow_session(self) -> None:
        """Begins to follow the session, which may be live already; whoever is to hear its start is here before."""
        self._mind.start()
        self.session.audience.subscribe(self, PCM16, tracks=_OUTPUT)

    # Connections

    def attach_primary(self, sink: Sink) -> LiveConnection:
        """Makes a WebSocket the leg of the call."""
        audio_format = format_of_live(self.asked) if self.asked is not None else format_of_body(self.session.info.live)
        connection = LiveConnection(
            sink,
            LiveBearer.PRIMARY,
            limits=self._limits,
            may_choose_model=not self.session.info.is_of_minted_key,
        )
        self._sound.output = PrimaryOutput(self.audience, connection, audio_format)
        inner = self.session.legs.new_port(may_come_back=False)
        port = self._port = self.port(inner)
        port.input_format = audio_format
        is_relay = self.asked is None
        self._leg = LiveLeg(
            port,
            self._sound.playout,
            audio_format,
            on_hang_up=lambda: connection.listener.finish(_NORMAL, "session ended"),
            play_now=self._sound.play_now if is_relay else None,
        )
        self.audience.connections.append(connection)
        self.session.legs.connect_leg(self._leg, inner)
        port.leg_connected()
        return connection

    def attach_sideband(
        self, sink: Sink, role: ListenerRole, *, may_end: bool, may_choose_model: bool
    ) -> LiveConnection:
        """Takes a server that follows the session and, unless its ``role`` is ``OBSERVER``, steers it."""
        connection = LiveConnection(
            sink,
            LiveBearer.SIDEBAND,
            limits=self._limits,
            role=role,
            may_end=may_end,
            may_choose_model=may_choose_model,
        )
        self._take(connection)
        return connection

    def port(self, port: PhoneOwner) -> LivePort:
        """Returns the port of a leg that comes, in front of the session's own."""
        return LivePort(self, port)

    def take_channel(self, sink: Sink) -> None:
        """Takes the leg's data channel; a later one takes the place of the first."""
        if self._channel is not None:
            self.audience.remove(self._channel)
        self._channel = LiveConnection(
            sink,
            LiveBearer.CHANNEL,
            limits=self._limits,
            grants=grants_of(self.session.info.live),
            may_choose_model=not self.session.info.is_of_minted_key,
        )
        if self._channel.is_limited:
            message = "The session allows this page only some events."
            self.audience.tell(Info(code="data_channel_permissions", message=message), only=self._channel)
        self._take(self._channel)

    def _take(self, connection: LiveConnection) -> None:
        self.audience.connections.append(connection)
        if self._timeline.is_started:
            self._mind.greet(connection)

    def detach(self, connection: LiveConnection, reason: str, error: BridgeError | None) -> None:
        """Notes that a connection is gone; without its primary one the call ends."""
        self.audience.remove(connection)
        connection.listener.close(_NORMAL, "")
        if connection.bearer is LiveBearer.PRIMARY and self._leg is not None:
            self._leg.lost(reason, error)

    # What clients say

    def receive_channel_text(self, text: str) -> None:
        """Takes a message that came over the data channel."""
        if self._channel is not None:
            for _ in self.receive_text(self._channel, text):
                pass

    def receive_text(self, connection: LiveConnection, text: str) -> Iterator[None]:
        """Takes one message, with a pause after each second of sound. A mistake is answered by an ``error`` event."""
        event_id = None
        try:
            message = read_live_message(text, connection.bearer)
            event_id = id_in(message.body)
            connection.listener.unreadable = 0
            connection.require_granted(message.type)
            self.session.lifetime.touch()
            if message.type == APPEND:
                yield from self._receive_sound(message.body)
            elif message.type == KEY:
                self._press(message)
            else:
                self._mind.receive_client_message(connection, message)
        except BadEvent as error:
            self._refuse(connection, error, event_id or error.event_id)
        except BridgeError as error:
            self._refuse(connection, error, event_id)
        except Exception as failure:
            self.session.context.logger("live").error("live.event_failed", exc_info=failure)
            refusal = BridgeError("Something went wrong in the server while it handled this event.")
            self._refuse(connection, refusal, event_id)

    def refuse(self, connection: LiveConnection, error: BridgeError) -> None:
        """Tells a connection what is wrong with what it has sent."""
        self._refuse(connection, error, None)

    def _refuse(self, connection: LiveConnection, error: BridgeError, event_id: str | None) -> None:
        self.audience.tell(live_error(error, client_event_id=event_id), only=connection)
        if error.code == "invalid_json" and connection.bearer is not LiveBearer.CHANNEL:
            connection.listener.count_unreadable(_INVALID_DATA, "not JSON")

    def _receive_sound(self, body: Body) -> Iterator[None]:
        """The caller's sound, a second at a time; raises ``BadEvent``."""
        if self._leg is None or self._port is None:
            raise BadEvent("The caller's sound comes with the call, so append events are not accepted.", param="type")
        audio_format = self._leg.input_format
        sound = decoded(body, audio_format)
        piece_bytes = audio_format.bytes_per_ms * 1000
        for at in range(0, len(sound), piece_bytes):
            if at:
                yield
            self._port.receive_leg_audio(sound[at : at + piece_bytes])

    def _press(self, message: LiveMessage) -> None:
        """Presses a key on the line to the telephone, which a Live service knows nothing of; raises ``BadRequest``."""
        event = read_live_event(message)
        press: Any = getattr(self.session.legs.current, "press_keys", None)
        if press is None or not isinstance(event, DtmfSend):
            raise BadEvent("Only telephone calls have DTMF keys.", code="unsupported_event", param="type")
        if len(event.event) != 1 or event.event.upper() not in "0123456789ABCD*#":
            raise BadEvent("'event' must be one of 0-9, A-D, * and #.", param="event")
        press(event.event)
        self.audience.tell(LiveDtmfSent(event=event.event, **named(event.event_id)))

    def mute(self, is_muted: bool) -> None:
        """Whether the model hears silence from now on."""
        self.is_muted = is_muted
        self.session.legs.decode_always(is_muted)

    # Sound

    def heard(self, sound: bytes, audio_format: AudioFormat) -> None:
        """Notes what the caller says, before it is muted, and tells sidebands of it."""
        self._sound.heard(sound, audio_format)

    def tick(self) -> None:
        """Lets 20 ms pass: what is due is played, and told."""
        if not self._timeline.is_started:
            return
        if self._leg is None or self.asked is not None:
            frame = self._sound.playout.tick()
            if self._leg is not None:
                self._leg.report(frame.played)
            if frame.words:
                self._mind.spoken(frame.words, self._sound.played_ms)
            self._sound.play(frame.sound)
        self._sound.pass_time(1)
        self._mind.spend()

    def skip(self, ticks: int) -> None:
        """Leaves out so many times 20 ms, because the clock was late."""
        self._sound.pass_time(ticks)

    # Consumer

    def event(self, event: server.ServerEvent, text: bytes) -> None:
        """Follows the session."""
        if self._leg is None:
            if isinstance(event, server.OutputAudioBufferCleared):
                self._sound.playout.clear()
            elif isinstance(event, server.OutputAudioDone | server.ResponseDone):
                self._sound.playout.end(PLAYED_HERE.response_id)
        if isinstance(event, server.Error) and not self.begun.is_set():
            error = event.error
            self.failure = UpstreamError(error.message, code=error.code, param=error.param, type=error.type)
        if isinstance(event, server.DtmfEventReceived) and self._timeline.is_started:
            self.audience.tell(DtmfReceived(event=event.event))
        self._mind.follow(event)

    def sound(self, track: TrackName, audio_format: AudioFormat, pcm: bytes, timestamp: int) -> None:
        """Takes what the leg plays by itself."""
        if self._leg is None:
            self._sound.playout.push(PLAYED_HERE, pcm)

    def ended(self, error: Exception | None) -> None:
        """Tells clients that the session is over, and closes their connections."""
        _, reason = self.session.lifetime.result
        if not self.begun.is_set():
            self.failure = self.failure or UpstreamError("The session ended before it started.", code=reason)
            self.begun.set()
        self._mind.close(_REASONS.get(reason, "connection_lost"))
        for connection in tuple(self.audience.connections):
            if connection.bearer is not LiveBearer.CHANNEL:  # the peer's transport goes as a whole
                connection.listener.finish(_NORMAL, "session ended")
        self._on_over(self)

    def listed(self) -> ListenerStats | None:
        """Returns how the client's own connection is listed."""
        own = self._channel if self._sound.output is None else self._sound.output.connection
        return None if own is None else own.listener.stats()


def decoded(body: Body, audio_format: AudioFormat) -> bytes:
    """Returns the sound of an append; raises ``BadEvent`` if it is none, or ends within a sample."""
    for name in body:
        if name not in ("type", "event_id", "audio"):
            message = f"Unknown parameter: '{name[:64]}'."
            raise BadEvent(message, code="unknown_parameter", param=name[:64])
    audio = body.get("audio")
    if not isinstance(audio, str):
        raise BadEvent("'audio' must be a base64 string.", code="invalid_audio", param="audio")
    if len(audio) > _MAX_APPEND_CHARS:
        raise BadEvent("An append may carry at most 15 MiB.", param="audio", code="event_too_large")
    try:
        sound = binascii.a2b_base64(audio, strict_mode=True) if audio else b""
    except (binascii.Error, ValueError):
        raise BadEvent("'audio' is not valid base64.", param="audio", code="invalid_audio") from None
    if len(sound) % audio_format.bytes_per_sample:
        raise BadEvent("'audio' ends in the middle of a sample.", param="audio", code="invalid_audio")
    return sound


def grants_of(body: Body | None) -> DataChannel | None:
    """Returns what a session grants to its page; None if it grants everything, or what it says cannot be read."""
    client = (body or {}).get("client")
    try:
        return None if client is None else msgspec.convert(client, LiveClient).data_channel
    except msgspec.ValidationError:
        return None


def format_of_body(body: Body | None) -> AudioFormat:
    """Returns the format of a session that somebody else judges; PCM of 24 kHz if it cannot be read."""
    audio = (body or {}).get("audio")
    try:
        return format_of_live(LiveSession(model="", audio=msgspec.convert(audio, LiveAudio)))
    except msgspec.ValidationError:
        return PCM16
