"""A call's life: its states follow each other as the picture shows, and whoever is lost may come back."""

import importlib
import re
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from bridge.errors import PeerLost, PeerNotConnected
from bridge.session.legs import LegPort
from bridge.session.lifetime import CallPhase
from bridge.wire.choices import Choices
from bridge.wire.stats import WEBRTC, CallState, CallStatus, ListenerRole
from tests.fakes import FakeLeg, FakeSink
from tests.session.stage import Stage

_PAGE = Path(__file__).parents[2] / "docs" / "internals" / "call-states.md"

CONNECTING, CONNECTED, REPLACING, LOST, OVERDUE, CLOSING, CLOSED = CallPhase


@pytest.mark.parametrize("module", ["lifetime", "legs", "fanout.listener"])
def test_the_picture_shows_the_table(module: str) -> None:
    """The page of a call's states draws the very transitions that the program allows."""
    name = f"bridge.session.{module}"
    picture = _PAGE.read_text().partition(f"<!-- of {name} -->")[2].partition("```mermaid")[2].partition("```")[0]
    drawn = set(re.findall(r"^ +(\w+) --> (\w+)", picture, re.MULTILINE))
    table = importlib.import_module(name).TRANSITIONS
    assert drawn == {(str(before), str(after)) for before, states in table.items() for after in states}


class Resumable(Stage):
    """A call over WebRTC that waits 30 s for its peer, with a listener that knows the bridge's own events."""

    def __init__(self) -> None:
        super().__init__(transport=WEBRTC, resume_grace_s=30.0)
        self.sink = FakeSink()
        self.session.audience.attach(self.sink, role=ListenerRole.CONTROLLER, choices=Choices(tracks=()))
        self.port, self.leg = self.offer()

    def offer(self) -> tuple[LegPort, FakeLeg]:
        """A leg that has still to connect."""
        port = self.session.legs.new_port()
        leg = FakeLeg(port)
        self.session.legs.connect_leg(leg, port)
        return port, leg

    @property
    def phase(self) -> CallPhase:
        return self.session.lifetime.phase

    @property
    def told(self) -> list[str]:
        """Of what only the bridge says."""
        return [name for name in self.sink.types if name.startswith("bridge.")]

    def run_out(self) -> None:
        """The time in which the peer may come back is over."""
        self.session.lifetime.window.run_out()


async def test_lost_and_back() -> None:
    """A peer that fell silent is waited for, listeners are told, and another leg takes its place."""
    call = Resumable()
    assert (call.phase, call.session.lifetime.state) == (CONNECTING, CallState.CONNECTING)
    call.leg.connect()
    assert (call.phase, call.session.lifetime.state) == (CONNECTED, CallState.CONNECTED)
    call.leg.vanish("peer_lost", PeerLost("silence"))
    assert (call.phase, call.session.lifetime.state) == (LOST, CallState.LOST)
    assert call.session.lifetime.window.is_awaited
    _, second = call.offer()
    second.connect()
    assert (call.phase, call.told) == (CONNECTED, ["bridge.call.lost", "bridge.call.resumed"])
    assert not call.session.lifetime.window.is_awaited
    assert call.ended == 0


async def test_lost_for_good() -> None:
    """If nobody comes in time, the call ends for the reason for which it was lost."""
    call = Resumable()
    call.leg.connect()
    call.leg.vanish("peer_lost", PeerLost("silence"))
    call.run_out()
    assert (call.phase, call.session.lifetime.result) == (CLOSED, ("client_error", "peer_lost"))
    assert (call.ended, call.session.stats().status) == (1, CallStatus.ERROR)
    assert call.told == ["bridge.call.lost", "bridge.call.closed"]


@pytest.mark.parametrize("makes_it", [True, False])
async def test_the_time_runs_out_while_another_leg_connects(makes_it: bool) -> None:
    """Then that leg is the last chance: it is waited for, however long it takes, and the call ends without it."""
    call = Resumable()
    call.leg.connect()
    call.leg.vanish("peer_lost", PeerLost("silence"))
    _, second = call.offer()
    call.run_out()
    assert (call.phase, call.session.lifetime.state, call.ended) == (OVERDUE, CallState.LOST, 0)
    if makes_it:
        second.connect()
        assert (call.phase, call.told) == (CONNECTED, ["bridge.call.lost", "bridge.call.resumed"])
    else:
        second.vanish("peer_not_connected", PeerNotConnected("nobody came"))
        assert (call.phase, call.session.lifetime.result) == (CLOSED, ("client_error", "peer_lost"))


@pytest.mark.parametrize("was_connected", [True, False])
async def test_a_leg_goes_while_another_one_connects(was_connected: bool) -> None:
    """Nobody is told: the call is connecting again, and connected as soon as that leg is."""
    call = Resumable()
    if was_connected:
        call.leg.connect()
    _, second = call.offer()
    call.leg.vanish("peer_closed")
    assert (call.phase, call.session.lifetime.state) == (REPLACING, CallState.CONNECTING)
    second.connect()
    assert (call.phase, call.told) == (CONNECTED, [])


async def test_the_leg_hangs_up_before_the_call_is_closed() -> None:
    """Between the end and the leg's own end nothing of the leg reaches the call any more."""
    call = Stage(transport=WEBRTC)
    port = call.session.legs.new_port()
    leg = FakeLeg(port, hangs=True)
    call.session.legs.connect_leg(leg, port)
    leg.connect()
    call.session.close("hangup")
    assert (call.session.lifetime.phase, call.session.lifetime.state) == (CLOSING, CallState.CLOSED)
    leg.speak(bytes(960))
    assert call.upstream.audio == b""
    leg.vanish("hangup")
    assert (call.session.lifetime.phase, call.ended) == (CLOSED, 1)


async def test_an_owner_is_waited_for_only_if_it_has_spoken() -> None:
    """A socket that broke before its first event has nothing to come back to."""
    stage = Stage(resume_grace_s=30.0)
    owner, _ = stage.attach("owner")
    stage.session.detach(owner, "client_gone", is_lost=True)
    assert stage.session.lifetime.phase is CLOSED
    stage = Stage(resume_grace_s=30.0)
    owner, _ = stage.attach("owner")
    stage.send(owner, {"type": "input_audio_buffer.clear"})
    stage.session.detach(owner, "client_gone", is_lost=True)
    assert stage.session.lifetime.phase is LOST
    stage.attach("owner")
    assert stage.session.lifetime.phase is CONNECTED
    stage.session.close("hangup")


@pytest.mark.usefixtures("debug_log")
async def test_changes_of_a_call_are_logged() -> None:
    """Each is one line at debug, with the call's id."""
    with capture_logs() as lines:
        call = Resumable()
        call.leg.connect()
        call.session.close("hangup")
    changes = [line for line in lines if line["event"] == "session.state" and line["thing"] == "call"]
    assert [(line["before"], line["after"]) for line in changes] == [
        ("connecting", "connected"),
        ("connected", "closing"),
        ("closing", "closed"),
    ]
    assert {line["call_id"] for line in changes} == {"rtc_1"}
