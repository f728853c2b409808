"""A listener's states: what comes goes out at once only while neither its socket nor its client stands in the way."""

import pytest
from structlog.testing import capture_logs

from bridge.log import get_logger
from bridge.session.fanout.backlog import Limits
from bridge.session.fanout.listener import Listener, ListenerState
from bridge.state_machine import StateMachine
from bridge.wire.message import EncodedMessage
from bridge.wire.stats import ListenerRole
from tests.fakes import FakeSink

FLOWING, FULL, HELD, HELD_AND_FULL, CLOSED = ListenerState


@pytest.mark.parametrize(
    ("steps", "state"),
    [
        ("", FLOWING),
        ("pause", FULL),
        ("pause pause", FULL),
        ("resume", FLOWING),
        ("pause resume", FLOWING),
        ("hold", HELD),
        ("release", FLOWING),
        ("hold release", FLOWING),
        ("pause hold", HELD_AND_FULL),
        ("hold pause", HELD_AND_FULL),
        ("hold pause resume", HELD),
        ("pause hold release", FULL),
        ("hold pause release resume", FLOWING),
        ("hold pause resume release", FLOWING),
        ("close", CLOSED),
        ("hold close release", CLOSED),
        ("pause close resume", CLOSED),
        ("close pause resume hold release close", CLOSED),
    ],
)
def test_states(steps: str, state: ListenerState) -> None:
    """A full socket and a client's pause add up, whichever ends first, and nothing comes after the end."""
    sink = FakeSink()
    listener = Listener(sink, role=ListenerRole.CONTROLLER, limits=Limits())
    for step in steps.split():
        if step == "close":
            listener.close(1000, "")
        else:
            getattr(listener, step)()
    listener.deliver(EncodedMessage(b'{"type":"x"}'))
    assert (listener.state, len(sink.messages)) == (state, 1 if state is FLOWING else 0)
    assert listener.stats().is_held == (state in (HELD, HELD_AND_FULL))


def test_the_table_is_the_law() -> None:
    """A state that does not follow is a fault of the program, and the thing stays as it is."""
    machine = StateMachine("door", FLOWING, {FLOWING: {CLOSED}, CLOSED: set()}, log=get_logger("session"))
    with pytest.raises(RuntimeError, match="A door cannot become held while it is flowing."):
        machine.enter(HELD)
    assert machine.state is FLOWING
    machine.enter(CLOSED)
    with pytest.raises(RuntimeError):
        machine.enter(FLOWING)


@pytest.mark.usefixtures("debug_log")
def test_changes_are_logged() -> None:
    """Each change of state is a line at debug, with what was before; what changes nothing is none."""
    with capture_logs() as lines:
        listener = Listener(FakeSink(), role=ListenerRole.CONTROLLER, limits=Limits(), log=get_logger("session"))
        listener.hold()
        listener.hold()
        listener.close(1000, "")
    assert [(line["log_level"], line["before"], line["after"]) for line in lines] == [
        ("debug", "flowing", "held"),
        ("debug", "held", "closed"),
    ]
