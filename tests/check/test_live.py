"""Live services are checked as Realtime servers are, by rows of their own."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from bridge.client.check.runner import Outcome, chosen, run
from bridge.client.check.shapes import live_flaws
from bridge.client.check.target import CheckTarget
from bridge.client.sound import PHRASE, read_sound
from bridge.daemon import Daemon
from tests.check.mutant import Event, Fault, mutant
from tests.settings import config_for_tests
from tests.upstream.live_service import LiveService

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120, func_only=True)]

_PASSED = {
    "live.silent_first",
    "live.started",
    "live.instructions",
    "live.strict",
    "live.started_twice",
    "live.immutable",
    "live.mute",
    "live.append_thinking",
    "live.append_instructions",
    "live.commentary",
    "live.transcripts",
    "live.answered",
    "live.odd_bytes",
    "live.unknown_type",
    "live.close",
    "live.no_browser_keys",
    "live.offer",
}
"""What the service of our tests does of the protocol; it was written by others than these rows, from the same notes."""


@pytest.fixture(scope="module")
def anyio_backend() -> tuple[str, dict[str, Any]]:
    """Once, on the loop that the daemon is served with."""
    return "asyncio", {"use_uvloop": True}


@pytest.fixture(scope="module")
async def service() -> AsyncIterator[LiveService]:
    """A Live service."""
    async with LiveService.serving() as serving:
        yield serving


async def _checked(url: str, *rows: str) -> dict[str, Outcome]:
    target = CheckTarget(url.removesuffix("/live/sessions"), dialect="live")
    outcomes = await run(target, chosen(target, rows), read_sound(PHRASE), jobs=4)
    return {outcome.id: outcome for outcome in outcomes}


async def test_a_live_service_passes(service: LiveService) -> None:
    """Rows of every kind: its start, appends, mutes, what is said both ways, errors, an offer, and its end."""
    found = await _checked(service.url, *_PASSED)
    assert {id_: each.why for id_, each in found.items() if each.verdict != "pass"} == {}
    assert found.keys() >= _PASSED


async def test_the_bridge_passes() -> None:
    """Its own Live endpoints. The parrot understands no words and delegates each turn: three rows are left out."""
    wordless = {"live.commentary", "live.transcripts", "live.answered"}
    async with Daemon(config_for_tests(api_key=("key-of-the-server",))) as daemon:
        target = CheckTarget(daemon.url, "key-of-the-server", dialect="live")
        rows = [row for row in chosen(target) if row.id not in wordless]
        outcomes = await run(target, rows, read_sound(PHRASE), jobs=4)
    assert {each.id: each.why for each in outcomes if each.verdict != "pass"} == {}
    assert len(outcomes) > 25


def _changed(kind: str, **values: Any) -> Fault:
    """Server events of this kind have other values at these names."""

    def server(event: Event) -> list[Event | str]:
        return [{**event, **values} if event["type"] == kind else event]

    return Fault(server=server)


def _dropped(kind: str) -> Fault:
    return Fault(server=lambda event: [] if event["type"] == kind else [event])


def _renamed(event: Event) -> list[Event | str]:
    return [{**event, "type": "session.created"} if event["type"] == "session.started" else event]


_FAULTS: dict[str, tuple[str, Fault]] = {
    "a session that is Realtime's": ("live.started", Fault(server=_renamed)),
    "an append that is not injected": ("live.append_thinking", _dropped("session.thinking.appended")),
    "an append that nobody can tell from others": (
        "live.append_thinking",
        _changed("session.thinking.appended", client_event_id=None),
    ),
    "a session without an id": ("live.started", _changed("session.started", session={"model": "gpt-live-1"})),
    "a mute without a word": ("live.mute", _dropped("session.input_audio.muted")),
    "an end for another reason": ("live.close", _changed("session.closed", reason="expired")),
    "transcripts without their time": ("live.transcripts", _changed("session.input_transcript.delta", start_ms=None)),
}


@pytest.mark.parametrize("name", _FAULTS)
async def test_a_planted_fault_is_found(service: LiveService, name: str) -> None:
    """The row that names the fault fails, and says what is wrong."""
    row, fault = _FAULTS[name]
    async with mutant(service.url.removesuffix("/v1/live/sessions"), fault) as url:
        found = (await _checked(f"{url}/v1", row))[row]
    assert found.verdict == "fail"
    assert found.why


def test_audio_has_no_event_id() -> None:
    """All other events must have one."""
    assert live_flaws({"type": "session.output_audio.delta", "delta": "AAAA"}) == []
    assert live_flaws({"type": "session.input_audio.muted"}) == ["event_id is not there; wanted: an id"]
