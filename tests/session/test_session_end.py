"""How a session ends: once, for everyone, with one line in the log."""

from collections.abc import Iterator

import msgspec
import pytest
import structlog
from msgspec import to_builtins
from structlog.testing import capture_logs
from structlog.typing import EventDict

from bridge.errors import PeerLost, PeerNotConnected, UpstreamError
from bridge.wire.audio import PCM16
from tests.fakes import FakeSink
from tests.session.stage import MS, Call, Stage

_LEG = {"sent": 0, "queued_ms": 0, "overflow_ms": 0, "faults": 0}


@pytest.fixture
def log() -> Iterator[list[EventDict]]:
    """What is logged, whatever another test has configured."""
    before = structlog.get_config()
    structlog.reset_defaults()
    with capture_logs() as lines:
        yield lines
    structlog.configure(**before)


def closing_lines(log: list[EventDict]) -> list[EventDict]:
    return [line for line in log if line["event"] == "call.closed"]


async def test_close_ends_everything(log: list[EventDict]) -> None:
    """Every socket is closed with the code, the leg is hung up, and all of it once."""
    call = Call().connect()
    sinks = [call.attach(role)[1] for role in ("controller", "observer")]
    call.session.close("hangup", code=1001)
    call.session.close("again", code=1011)
    assert [sink.closed for sink in sinks] == [(1001, "hangup")] * 2
    assert call.leg.reason == "hangup"
    assert call.session.lifetime.closed.is_set()
    assert call.ended == 1
    assert call.session.lifetime.state == "closed"
    [line] = closing_lines(log)
    assert line.items() >= {"result": "success", "reason": "hangup", "call_id": "rtc_1", "sent": 0}.items()
    assert line["upstream"].items() >= {"name": "fake", "lines": 1, "lost": 0, "answers": 0}.items()


async def test_two_lines_per_call(log: list[EventDict]) -> None:
    """One line when it opens, one when it closes, with its length, whatever happens in between."""
    call = Call()
    call.clock.now += 0.25
    call.connect()
    listener, _ = call.attach(audio=PCM16)
    call.answer(bytes(1000 * MS))
    call.leg.hear(100)
    call.interrupt()
    call.session.receive_client_text(listener, "{")
    call.finish_answer()
    call.session.detach(listener)
    call.clock.now += 59.75
    call.leg.vanish("peer_closed")
    call.leg.vanish("again")
    opened, closed = (line for line in log if line["log_level"] != "debug")
    assert (opened["event"], opened["connect_ms"]) == ("call.opened", 250)
    assert (closed["event"], closed["seconds"], closed["reason"]) == ("call.closed", 60.0, "peer_closed")


async def test_a_session_waits_for_its_leg() -> None:
    """It is closed when the leg is gone, not when it was told to go; the sockets do not wait."""
    call = Call(hangs=True).connect()
    _, sink = call.attach()
    call.session.close("hangup")
    assert sink.closed == (1000, "hangup")
    assert call.leg.reason == "hangup"
    assert not call.session.lifetime.closed.is_set()
    call.leg.vanish("hangup")
    assert call.session.lifetime.closed.is_set()


async def test_a_listener_that_comes_too_late_is_closed() -> None:
    """Who attaches while the leg is still hanging up is not left behind."""
    call = Call(hangs=True).connect()
    call.session.close("hangup")
    _, sink = call.attach()
    call.leg.vanish("hangup")
    assert sink.closed is not None


async def test_the_owner_ends_its_session(log: list[EventDict]) -> None:
    """When the owner's socket is gone, so is the session, and with it every sideband."""
    stage = Stage()
    owner, _ = stage.attach("owner")
    _, sideband = stage.attach()
    stage.session.detach(owner)
    assert sideband.closed == (1000, "client_closed")
    assert stage.session.lifetime.closed.is_set()
    assert closing_lines(log)[0]["result"] == "success"


async def test_a_sideband_ends_nothing() -> None:
    """Any listener but the owner may come and go."""
    call = Call().connect()
    listener, _ = call.attach()
    call.session.detach(listener)
    call.session.detach(listener)
    assert not call.session.lifetime.closed.is_set()
    assert call.leg.reason is None


@pytest.mark.parametrize("error", [PeerLost("gone"), PeerNotConnected("never came")], ids=lambda error: str(error.code))
async def test_a_lost_peer_ends_the_call(error: PeerLost, log: list[EventDict]) -> None:
    """The peer's end is everybody's, and counts as the client's doing."""
    call = Call()
    _, sink = call.attach()
    call.leg.vanish(error.code, error)
    assert sink.closed is not None
    assert sink.closed[1] == error.code
    [line] = closing_lines(log)
    assert (line["result"], line["reason"]) == ("client_error", error.code)


async def test_an_upstream_that_fails_ends_the_call(log: list[EventDict]) -> None:
    """Everyone reads the upstream's error, and every socket is closed with the code of that error."""
    call = Call().connect()
    _, sink = call.attach()
    call.upstream.downstream.upstream_closed(UpstreamError("The service is gone.", code="upstream_lost"))
    for reader in (sink, call.channel):
        [event] = reader.of_type("error")
        assert event["error"].items() >= {"code": "upstream_lost", "message": "The service is gone."}.items()
    assert call.leg.reason == "upstream_lost"
    assert closing_lines(log)[0]["result"] == "upstream_error"
    assert sink.closed == (UpstreamError.close_code, "upstream_lost")


async def test_an_upstream_that_leaves_ends_the_call() -> None:
    """Without an error nobody is told of one."""
    stage = Stage()
    _, sink = stage.attach("owner")
    stage.upstream.downstream.upstream_closed(None)
    assert sink.of_type("error") == []
    assert sink.closed == (1000, "upstream_closed")


@pytest.mark.parametrize(("limit_s", "words"), [(3600.0, "60 minutes"), (1.5, "1.5 seconds")])
async def test_a_session_expires(limit_s: float, words: str) -> None:
    """At the limit everyone is told why, by an error and by the close frame, as the real service does; code 1001."""
    call = Call().connect()
    _, sink = call.attach()
    call.session.expire(limit_s)
    [event] = sink.of_type("error")
    assert event["error"]["code"] == "session_expired"
    message = f"Your session hit the maximum duration of {words}."
    assert event["error"]["message"] == message
    assert call.channel.types[-1] == "error"
    assert sink.closed == (1001, message)
    _, late_sink = call.attach()
    assert late_sink.closed == (1001, message)
    assert call.leg.reason == "session_expired"


async def test_nothing_is_carried_out_after_the_end() -> None:
    """What a client sent before it knew of the end reaches nobody; an upstream is not woken up again."""
    stage = Stage()
    owner, _ = stage.attach("owner")
    stage.session.close("hangup")
    await stage.session.aclose()
    stage.send(owner, {"type": "response.create"})
    stage.send(owner, {"type": "input_audio_buffer.append", "audio": "AAAA"})
    assert stage.upstream.events == []
    assert stage.upstream.audio == b""


async def test_nothing_is_sent_after_the_end() -> None:
    """What the upstream still says is heard by no socket that is closed."""
    stage = Stage()
    _, sink = stage.attach("owner")
    stage.session.close("hangup")
    stage.answer(bytes(1000 * MS))
    stage.finish_answer()
    assert sink.types == ["session.created"]
    assert sink.sent_when_closed == 0


async def test_aclose_closes_the_upstream_last() -> None:
    """``aclose`` waits for the end of the session, then ends the upstream; it may be called twice."""
    call = Call().connect()
    call.session.close("hangup")
    await call.session.aclose()
    await call.session.aclose()
    assert call.upstream.closed == 2


async def test_describe() -> None:
    """The call for people: who, how long, who listens, and the peer's figures."""
    call = Call()
    assert to_builtins(call.session.stats())["state"] == "connecting"
    call.connect()
    call.attach("observer", PCM16)
    call.clock.now += 7.04
    described = to_builtins(call.session.stats())
    listeners = described.pop("listeners")
    assert described == {
        "id": "rtc_1",
        "key_id": "api",
        "trace_id": None,
        "object": "realtime.call",
        "session_id": call.session.info.session_id,
        "state": "connected",
        "status": "active",
        "transport": "webrtc",
        "model": "parrot",
        "started_at": 0.0,
        "metadata": {},
        "warnings": [],
        "seconds": 7.0,
        "legs": [{"kind": "webrtc", "input": "pcm16", "output": "pcm16", "quality": _LEG}],
        "peer": _LEG,
        "upstream": {
            "name": "fake",
            "lines": 1,
            "lost": 0,
            "answers": 0,
            "stages": (),
            "input_seconds": 0.0,
            "output_seconds": 0.0,
        },
        "setup_ms": 0,
        "dropped_events": 0,
    }
    in_full = to_builtins(call.session.stats(in_full=True))
    assert in_full["session"] == msgspec.to_builtins(call.session.state.config)
    assert isinstance(listeners, list)
    assert [(listener["role"], listener["audio"]) for listener in listeners] == [
        ("peer", "none"),
        ("observer", "pcm16"),
    ]


@pytest.mark.parametrize(("error", "status"), [(None, "ended"), (PeerLost("It went silent."), "error")])
async def test_the_status_of_a_call_that_is_over(error: PeerLost | None, status: str) -> None:
    """As the beta reference has it: it was active, and then ended, or came to grief."""
    call = Call(hangs=True).connect()
    call.session.close("over", error=error)
    assert to_builtins(call.session.stats())["status"] == status
    stage = Stage()
    assert to_builtins(stage.session.stats())["id"] == stage.session.info.session_id
    assert to_builtins(stage.session.stats())["peer"] is None
    assert to_builtins(stage.session.stats())["legs"] == []
    stage.attach("owner")
    expected = {"kind": "websocket", "input": "pcm16", "output": "pcm16", "quality": None}
    assert to_builtins(stage.session.stats())["legs"] == [expected]


def test_dropped_sound_is_in_the_closing_line(log: list[EventDict]) -> None:
    """What listeners missed is counted at the end, also of those that left before."""
    stage = Stage()
    stage.attach("owner")
    listener, sink = stage.attach(audio=PCM16, room=1)
    assert isinstance(sink, FakeSink)
    for _ in range(300):
        stage.speak(bytes(20 * MS))
    dropped = listener.dropped_events
    assert dropped > 0
    stage.session.detach(listener)
    stage.session.close("hangup")
    assert closing_lines(log)[0]["dropped"] == dropped
