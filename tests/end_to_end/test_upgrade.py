"""One process takes over from another under load: nobody is refused, no call is lost, and no sound."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from tests.end_to_end.event_log import inbound_sound, stream_numbers
from tests.end_to_end.real_peer import RealPeer
from tests.end_to_end.serving import COMMAND, LIMIT_S, Serving, bound_sockets, free_port, logged, serving
from tests.end_to_end.sound import samples_of, stretched_likeness
from tests.end_to_end.web import EventSocket, open_socket, request
from tests.machine import scaled
from tests.processes import clean_environ, ran

pytestmark = pytest.mark.slow

_LONGEST_GAP_S = scaled(3.0)  # a machine that is busy with other tests, and three processes beside them
_DRAIN = ("--drain-s", "60")


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """Once: which loop the tests run on is nothing to a process of its own."""
    return "asyncio"


class _Load:
    """Connects again and again: asks for readiness, opens a session, makes a call; each has to succeed at once."""

    def __init__(self, url: str) -> None:
        self.done = {"requests": 0, "sessions": 0, "calls": 0}
        self._url = url
        self._is_over = False

    async def ask(self) -> None:
        """Requests, each over a connection of its own."""
        while not self._is_over:
            assert (await request("GET", f"{self._url}readyz")).status == 200
            self.done["requests"] += 1

    async def open_sessions(self) -> None:
        """Sessions that answer once and end."""
        while not self._is_over:
            async with open_socket(self._url, "model=any") as owner:
                await owner.until("session.created")
            self.done["sessions"] += 1

    async def call(self) -> None:
        """WebRTC calls that connect and end."""
        while not self._is_over:
            async with RealPeer(self._url):
                self.done["calls"] += 1

    async def grown(self, by: int) -> None:
        """Returns when so many more of each have succeeded."""
        before = dict(self.done)
        async with asyncio.timeout(LIMIT_S):
            while True:
                if all(self.done[name] >= before[name] + by for name in before):
                    return
                await asyncio.sleep(0.01)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """All three, while the block runs; fails as soon as one of them does."""
        async with asyncio.TaskGroup() as tasks:
            for each in (self.ask, self.open_sessions, self.call):
                tasks.create_task(each())
            yield
            self._is_over = True


def _require_all_heard(daemon: Serving, peer: RealPeer, heard: "_Heard", speech_pcm: bytes) -> None:
    """The listener has all that the caller has sent, in order, and the process has lost no packet of it."""
    events = heard.listener.events
    assert stretched_likeness(samples_of(inbound_sound(events)), samples_of(speech_pcm)) > 0.9
    numbers = stream_numbers(heard.listener.of("input_audio_buffer.append"))
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    [closed] = [
        line for line in daemon.log_lines() if line["event"] == "call.closed" and line["call_id"] == peer.call_id
    ]
    assert closed["packets"] == peer.microphone.frames
    assert [closed[name] for name in ("lost", "late", "doubles", "concealed_ms", "dropped")] == [0] * 5
    assert heard.longest_gap_s < _LONGEST_GAP_S


class _Heard:
    """A listener of a call, and the longest time in which it heard nothing."""

    def __init__(self, listener: EventSocket) -> None:
        self.listener = listener
        self.longest_gap_s = 0.0
        self._last_at: float | None = None
        self._add = listener.add
        listener.add = self._note  # type: ignore[method-assign]

    def _note(self, text: str | bytes) -> None:
        self._add(text)
        if self.listener.events[-1]["type"] == "input_audio_buffer.append":
            now = asyncio.get_running_loop().time()
            if self._last_at is not None:
                self.longest_gap_s = max(self.longest_gap_s, now - self._last_at)
            self._last_at = now


@pytest.mark.parametrize("is_activated", [False, True], ids=["replace", "socket activation"])
async def test_replaced_under_load(
    tmp_path: Path, speech_pcm: bytes, is_activated: bool, record_property: Callable[[str, object], None]
) -> None:
    """Twice in a row: connections succeed all the while, old calls lose no sound, and each process ends with its last.

    The first process's calls outlive the second process. With socket activation somebody else holds the sockets.
    """
    port = free_port()
    flags = ("--port", str(port), *_DRAIN)
    async with AsyncExitStack() as daemons, AsyncExitStack() as calls:
        sockets = [daemons.enter_context(each) for each in bound_sockets(port)] if is_activated else []
        first = await daemons.enter_async_context(serving(tmp_path / "first", *flags, sockets=sockets))
        load = _Load(first.url)
        speakers = [await calls.enter_async_context(RealPeer(first.url)) for _ in range(2)]
        queries = [f"call_id={peer.call_id}&audio=pcm16" for peer in speakers]
        hearers = [_Heard(await calls.enter_async_context(open_socket(first.url, query))) for query in queries]
        owner = await calls.enter_async_context(open_socket(first.url, "model=any"))
        async with load.running(), asyncio.TaskGroup() as speaking:
            for peer in speakers:
                speaking.create_task(peer.speak(speech_pcm))
            await load.grown(5)
            again = ("--replace", *flags)
            second = await daemons.enter_async_context(serving(tmp_path / "second", *again, sockets=sockets))
            await logged(first, "daemon.replaced")
            await load.grown(5)
            third = await daemons.enter_async_context(serving(tmp_path / "third", *again, sockets=sockets))
            await logged(second, "daemon.replaced")
            await load.grown(5)
        assert await asyncio.wait_for(second.process.wait(), LIMIT_S) == 0
        assert first.process.returncode is None
        await owner.send({"type": "response.create"})
        await owner.until("response.done")
        for peer, heard in zip(speakers, hearers, strict=True):
            peer.send({"type": "response.create"})
            await peer.until("response.done")
            await peer.hang_up()
            assert await heard.listener.close_code() == 1000
            _require_all_heard(first, peer, heard, speech_pcm)
        await owner.connection.close()
        assert await asyncio.wait_for(first.process.wait(), LIMIT_S) == 0
        await logged(third, "daemon.predecessor_gone")
        async with RealPeer(third.url):
            pass
        await third.stop()
    assert [daemon.complaints() for daemon in (first, second, third)] == [[], [], []]
    record_property("longest_gap_ms", round(1000 * max(heard.longest_gap_s for heard in hearers)))
    record_property("connections", load.done)


async def test_keys_are_good_at_the_next_process(tmp_path: Path) -> None:
    """A key that one process has minted opens a call at the one that takes over, with its session, and only once."""
    flags = ("--port", str(free_port()), "--api-key", "sk-operator", *_DRAIN)
    operator = {"Authorization": "Bearer sk-operator", "Content-Type": "application/json"}
    session = {"type": "realtime", "instructions": "Be brief."}
    caps = {"allowed_origins": ["https://a.example"], "single_use": True}
    async with serving(tmp_path / "first", *flags) as first:
        body = json.dumps({"session": session, "bridge": caps})
        minted = await request("POST", f"{first.url}v1/realtime/client_secrets", headers=operator, body=body)
        key = minted.json["value"]
        async with serving(tmp_path / "second", "--replace", *flags) as second:
            assert await asyncio.wait_for(first.process.wait(), LIMIT_S) == 0
            client = {"Authorization": f"Bearer {key}", "Origin": "https://a.example"}
            refused = await request(
                "POST", f"{second.url}v1/realtime/calls", headers={"Authorization": f"Bearer {key}"}
            )
            assert refused.json["error"]["param"] == "Origin"
            async with open_socket(second.url, "model=any", additional_headers=client) as owner:
                created = await owner.until("session.created")
            assert created["session"]["instructions"] == "Be brief."
            again = await request("POST", f"{second.url}v1/realtime/calls", headers=client, body="v=0")
            assert again.status in (400, 401)
            await second.stop()


async def test_a_process_that_does_not_get_ready_replaces_nothing(tmp_path: Path) -> None:
    """If the new one is refused at its start, the old one serves on, and can be replaced by the next.

    They share a queue of webhooks, as two processes of one service do.
    """
    hooks = ("--webhook-url", "https://hooks.invalid/", "--webhook-queue", str(tmp_path / "hooks"))
    flags = (
        "--port",
        str(free_port()),
        *_DRAIN,
        *hooks,
        "--webhook-secret",
        "whsec_c2VjcmV0IG9mIHRoZSB0ZXN0cywgbG9uZw==",
    )
    async with serving(tmp_path / "first", *flags) as first:
        wrong = (*COMMAND, "--replace", *flags, "--record-dir", "/dev/null/recordings")
        code, _, complaint = await ran(*wrong, environ=clean_environ())
        assert (code, "record_dir" in complaint) == (2, True)
        failed = await logged(first, "daemon.replacement_failed")
        assert "before it was ready" in failed["error"]
        assert (await request("GET", f"{first.url}readyz")).status == 200
        async with serving(tmp_path / "second", "--replace", *flags) as second:
            assert await asyncio.wait_for(first.process.wait(), LIMIT_S) == 0
            assert (await request("GET", f"{second.url}readyz")).status == 200
            await second.stop()


async def test_nobody_to_replace(tmp_path: Path) -> None:
    """Then it starts as usual, so that the same command is good for every start."""
    async with serving(tmp_path / "log", "--replace", "--port", str(free_port())) as daemon:
        assert (await request("GET", f"{daemon.url}readyz")).status == 200
        await daemon.stop()
    assert daemon.complaints() == []
