"""What the embedded engine never says, and an upstream may: through a session, to a client of either dialect."""

import pytest

from bridge.session.fanout.listener import Listener
from bridge.wire.stats import Dialect, ListenerRole
from tests.fakes import FakeSink
from tests.sdk.every_event import BETA_NAMES, DELIVERED, every_server_event
from tests.sdk.stock import BETA, GA
from tests.session.stage import Stage


class _Stage(Stage):
    """A session with one client of each dialect."""

    def __init__(self) -> None:
        super().__init__()
        self.ga, self.beta = FakeSink(), FakeSink()
        self.listeners: dict[str, Listener] = {
            "ga": self.session.audience.attach(self.ga, role=ListenerRole.CONTROLLER),
            "beta": self.session.audience.attach(self.beta, role=ListenerRole.CONTROLLER, dialect=Dialect.BETA),
        }
        self.ga.forget()
        self.beta.forget()


@pytest.mark.parametrize("name", DELIVERED)
def test_delivered_event(name: str) -> None:
    """A GA client gets it as the SDK has it; a beta client too, or not at all where its SDK has no such event."""
    stage = _Stage()
    stage.upstream.downstream.deliver_event(every_server_event()[name])
    assert stage.ga.types == [name]
    assert [GA.complaint(event) for event in stage.ga.events] == [None]
    in_beta = BETA_NAMES[name]
    assert stage.beta.types == ([] if in_beta is None else [in_beta])
    assert [complaint for event in stage.beta.events if (complaint := BETA.complaint(event))] == []


@pytest.mark.parametrize("name", [name for name in every_server_event() if not name.startswith("bridge.")])
def test_every_event_fits_the_types_of_both_sdks(name: str) -> None:
    """With no field missing, whatever the event says."""
    stage = _Stage()
    stage.session.audience.hub.publish(every_server_event()[name])
    assert [GA.complaint(event) for event in stage.ga.events] == [None]
    assert [complaint for event in stage.beta.events if (complaint := BETA.complaint(event))] == []


@pytest.mark.parametrize(
    "name", ["bridge.listener.dropped", "bridge.call.closed", "bridge.call.lost", "bridge.call.resumed", "bridge.mark"]
)
def test_own_event(name: str) -> None:
    """What the bridge says of itself is said in either dialect; no SDK knows it, and all let it pass."""
    stage = _Stage()
    stage.session.audience.hub.publish(every_server_event()[name])
    assert (stage.ga.types, stage.beta.types) == ([name], [name])
    assert stage.ga.events == stage.beta.events


def test_beta_client_hears_of_its_conversation() -> None:
    """``conversation.created`` follows ``session.created``, for beta clients only."""
    stage = _Stage()
    ga, beta = FakeSink(), FakeSink()
    stage.session.audience.attach(ga, role=ListenerRole.CONTROLLER)
    stage.session.audience.attach(beta, role=ListenerRole.CONTROLLER, dialect=Dialect.BETA)
    assert ga.types == ["session.created"]
    assert beta.types == ["session.created", "conversation.created"]
    assert BETA.complaint(beta.events[1]) is None
    assert beta.events[1]["conversation"]["id"] == stage.session.state.conversation.id


def test_rate_limits() -> None:
    """``rate_limits.updated`` with its limits, as an upstream with limits tells them."""
    stage = _Stage()
    stage.upstream.downstream.deliver_event(every_server_event()["rate_limits.updated"])
    for sink in (stage.ga, stage.beta):
        [event] = sink.of_type("rate_limits.updated")
        assert event["rate_limits"] == [{"name": "requests", "limit": 10, "remaining": 9, "reset_seconds": 1.5}]
