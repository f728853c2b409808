"""The states of an upstream and of its lines, as the log tells them; every line of it names the call."""

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from structlog.testing import capture_logs

from tests.upstream.dialled import dialled
from tests.upstream.scripts import cut_in_answer, expire, successor
from tests.upstream.service import Refusal, Service, Visit

pytestmark = pytest.mark.usefixtures("debug_log")


def _states(lines: Sequence[Mapping[str, Any]], event: str) -> list[str]:
    return [line["after"] for line in lines if line["event"] == event]


async def test_a_loss_that_the_engine_makes_good() -> None:
    """Live, reopening, local, over; the one line that there was has ended."""
    with capture_logs() as lines:
        async with Service.serving(cut_in_answer, Refusal(401)) as service, dialled(service, "local") as call:
            await call.until("session.updated")
    assert _states(lines, "upstream.state") == ["live", "reopening", "local", "closing", "over"]
    assert _states(lines, "upstream.line_state") == ["greeted", "live", "ended", "ended"]
    assert _states(lines, "upstream.greeting") == ["live"]


async def test_every_line_of_the_log_names_the_call() -> None:
    """Whatever happens to an upstream: retried, refused, lost, taken over."""
    with capture_logs() as lines:
        async with (
            Service.serving(Refusal(503), cut_in_answer, Refusal(401)) as service,
            dialled(service, "local") as call,
        ):
            await call.until("session.updated")
    upstreams = [line for line in lines if line["event"].startswith("upstream.")]
    assert {"upstream.retry", "upstream.lost", "upstream.refused"} <= {line["event"] for line in upstreams}
    assert [line for line in upstreams if line.get("call_id") != "rtc_1"] == []


async def test_a_session_that_is_too_old_for_its_service() -> None:
    """The line has expired before it ends, and another one goes on, although nothing was owed."""

    async def old(visit: Visit) -> None:
        await visit.greet()
        await expire(visit)

    with capture_logs() as lines:
        async with Service.serving(old, successor) as service, dialled(service) as call:
            await call.until("session.updated")
    assert _states(lines, "upstream.line_state") == ["greeted", "live", "expired", "ended", "greeted", "live", "ended"]


async def test_nobody_answers() -> None:
    """From opening it is over."""
    with capture_logs() as lines:
        async with Service.serving(Refusal(401)) as service, dialled(service) as call:
            await call.until_over()
    assert _states(lines, "upstream.state") == ["over"]
