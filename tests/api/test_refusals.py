"""Who is turned away is told in the log, a storm of them in one line."""

from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from structlog.testing import capture_logs
from websockets.exceptions import InvalidStatus

from bridge.api import refusals
from bridge.daemon import Daemon
from bridge.log import Tally
from tests.end_to_end.conftest import ServeWith
from tests.end_to_end.web import open_socket, request

_KEY = "sk-refusal-test"


@pytest.fixture(autouse=True)
def _nothing_was_told_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Each test begins a second of its own; what another test has made of the log is no matter here."""
    monkeypatch.setattr(refusals, "_tally", Tally())
    before = structlog.get_config()
    structlog.reset_defaults()
    yield
    structlog.configure(**before)


def _told(lines: list[Any]) -> list[tuple[int, str, str, int]]:
    return [
        (line["status"], line["code"], line["route"], line["count"]) for line in lines if line["event"] == "api.refused"
    ]


async def test_a_wrong_key_is_told_with_the_senders_address(serve_with: ServeWith) -> None:
    """Over HTTP and over a WebSocket; the key itself is not told."""
    with capture_logs() as lines:
        async with serve_with(api_key=(_KEY,)) as daemon:
            await request("GET", f"{daemon.url}v1/calls/rtc_1", headers={"Authorization": "Bearer sk-guess"})
            with pytest.raises(InvalidStatus):
                async with open_socket(daemon.url, "model=any"):
                    pass
    assert _told(lines) == [
        (401, "invalid_api_key", "/v1/calls/{call_id}", 1),
        (401, "invalid_api_key", "/v1/realtime", 1),
    ]
    assert {line["sender"].partition(":")[0] for line in lines if line["event"] == "api.refused"} == {"127.0.0.1"}
    assert "sk-guess" not in str(lines)


async def test_a_storm_is_one_line(serve_with: ServeWith) -> None:
    """Whoever guesses keys all the time does not fill the log."""
    with capture_logs() as lines:
        async with serve_with(api_key=(_KEY,)) as daemon:
            for _ in range(20):
                await request("GET", f"{daemon.url}v1/calls")
    told = _told(lines)
    assert told[0] == (401, "invalid_api_key", "/v1/calls", 1)
    assert len(told) <= 4  # one a second


async def test_limits_and_a_drain_are_told(serve_with: ServeWith, offer: str) -> None:
    """429 and 503, as their senders get them."""
    sdp = {"Content-Type": "application/sdp"}
    with capture_logs() as lines:
        async with serve_with(max_calls=1) as daemon:
            async with open_socket(daemon.url, "model=any"):
                reply = await request("POST", f"{daemon.url}v1/realtime/calls", headers=sdp, body=offer)
                assert reply.status == 429
                daemon.registry.stop_accepting()
                reply = await request("POST", f"{daemon.url}v1/realtime/calls", headers=sdp, body=offer)
                assert reply.status == 503
    route = "/v1/realtime/calls"
    assert _told(lines) == [(429, "too_many_calls", route, 1), (503, "server_draining", route, 1)]


async def test_what_only_its_sender_got_wrong_is_not_told(daemon: Daemon) -> None:
    """400 and 404 are no news for an operator."""
    with capture_logs() as lines:
        assert (await request("GET", f"{daemon.url}v1/calls/rtc_nope")).status == 404
        assert (await request("POST", f"{daemon.url}v1/realtime/calls", body="hello")).status == 400
    assert _told(lines) == []
