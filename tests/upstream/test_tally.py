"""What is counted of an upstream: dials, failures, losses and renewals, over all calls."""

from typing import Any

import pytest

from bridge.config import NamedUpstream, UpstreamSettings
from bridge.engine.parrot import Parrot
from bridge.engine.service import Engine
from bridge.errors import UpstreamError
from bridge.upstream.factory import UpstreamFactory
from bridge.upstream.tally import TargetTally
from bridge.wire.own_events import UpstreamDown, UpstreamUp
from bridge.wire.server_events import ServerEvent
from bridge.wire.stats import TargetStats
from tests.engine.talk import silence
from tests.upstream.dialled import Dialled, dialled
from tests.upstream.scripts import cut_in_answer, successor
from tests.upstream.service import Refusal, Service


def _counts(call: Dialled) -> list[tuple[int, int, int, int, int]]:
    """Dials, failures, losses, renewals and how often it was given up, of each target."""
    stats = [tally.stats() for tally in call.tallies.values()]
    return [(one.dials, one.failures, one.lost, one.renewals, one.given_up) for one in stats]


async def test_a_target_that_refuses_is_given_up_and_the_next_one_is_dialled() -> None:
    """Each try counts, and each that brings no session as a failure; of who answers, the dial alone."""
    async with (
        Service.serving(Refusal(503), Refusal(503), Refusal(401)) as bad,
        Service.serving(successor) as good,
        dialled(bad, good) as call,
    ):
        await call.until("session.created")
        assert _counts(call) == [(3, 3, 0, 0, 1), (1, 0, 0, 0, 0)]


async def test_a_loss_counts_once_and_so_does_the_dial_behind_it() -> None:
    """The line that broke is a loss of its target; the one that follows is one more dial."""
    async with Service.serving(cut_in_answer, successor) as service, dialled(service) as call:
        await call.until("response.done", 2)
        assert _counts(call) == [(2, 0, 1, 0, 0)]


async def test_a_renewal_is_no_loss() -> None:
    """A line that is replaced because of its age counts as a dial and a renewal."""
    async with Service.serving(successor) as service, dialled(service, renew_s=0.1) as call:
        await call.until("session.created")
        await service.visit(2)
        await service.visits[0].socket.wait_closed()
        call.upstream.receive_caller_audio(silence(20))
        [(dials, failures, lost, renewals, given_up)] = _counts(call)
        assert dials >= 2
        assert (failures, lost, given_up) == (0, 0, 0)
        assert renewals >= 1


def test_going_down_is_told_once_and_so_is_coming_up() -> None:
    """However many calls give it up meanwhile; one that asked for what it does not have says nothing of it."""
    told: list[ServerEvent] = []
    tally = TargetTally("cloud", told.append)
    tally.answer()
    tally.give_up(UpstreamError("No such model.", code="model_not_found", is_transient=False))
    assert told == []
    for _ in range(3):
        tally.give_up(UpstreamError("Nobody there.", code="upstream_lost"))
    assert tally.stats().down == "upstream_lost"
    for _ in range(2):
        tally.answer()
    assert tally.stats().down is None
    assert told == [UpstreamDown(upstream="cloud", code="upstream_lost"), UpstreamUp(upstream="cloud")]
    assert tally.stats().given_up == 4


@pytest.mark.parametrize(
    ("settings", "names"),
    [
        ({}, []),
        ({"upstream": "agent", "upstream_fallback": ("local",)}, ["agent"]),
        ({"upstream": "wss://a.example/v1/realtime", "upstream_fallback": ("b",)}, ["upstream", "b"]),
    ],
)
def test_every_target_of_the_settings_is_told_of_from_the_start(settings: dict[str, Any], names: list[str]) -> None:
    """Whoever alerts on a count needs its zero; the embedded engine is never dialled and has none."""
    upstreams = {"b": NamedUpstream(url="wss://b.example/v1/realtime", models=("b-1",))} if "b" in names else {}
    factory = UpstreamFactory(
        UpstreamSettings(**settings, upstreams=upstreams),
        None,  # type: ignore[arg-type]
        new_engine=lambda context, name: Engine(Parrot(), context),
    )
    zeros = [TargetStats(name=name, dials=0, failures=0, lost=0, renewals=0, given_up=0) for name in names]
    assert factory.stats() == zeros
