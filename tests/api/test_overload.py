"""Overload: new calls are refused by how late the event loop is, and taken again when it has caught up."""

import asyncio
import time

import pytest

from bridge.calls.overload import LoopLag
from bridge.calls.registry import CallLimits, Registry
from bridge.calls.terms import Terms
from bridge.errors import Overloaded
from bridge.wire.stats import WEBSOCKET
from tests.end_to_end.conftest import ServeWith
from tests.end_to_end.web import open_socket, request
from tests.fakes import FakeUpstream
from tests.machine import scaled


def _measure(lag: LoopLag, *late_ms: float, times: int = 1) -> LoopLag:
    for _ in range(times):
        for one in late_ms:
            lag.measure(one, 0.05 + one / 1000)
    return lag


def test_a_single_pause_is_no_overload() -> None:
    """Neither one long pause nor many short ones are; a loop that is late all the time is."""
    assert not _measure(LoopLag(100), 0, 150, 0, 0, times=20).is_too_late
    assert not _measure(LoopLag(100), 60, times=200).is_too_late
    assert _measure(LoopLag(100), 200, times=20).is_too_late
    assert _measure(LoopLag(100), 1500, 1500, 1500).is_too_late


def test_relief() -> None:
    """Calls are taken again when the lateness is well below the limit, not at each swing around it."""
    lag = _measure(LoopLag(100), 300, times=20)
    while lag.mean_ms > 60:
        _measure(lag, 40)
        assert lag.is_too_late
        with pytest.raises(Overloaded):
            lag.require_time()
    _measure(lag, 0, times=40)
    assert not lag.is_too_late
    lag.require_time()


def test_no_limit() -> None:
    """With 0 nothing is too late, and it is measured all the same."""
    lag = _measure(LoopLag(0), 1000, times=20)
    assert lag.mean_ms > 500
    lag.require_time()


async def test_new_calls_are_refused_and_running_ones_live() -> None:
    """The error says when to come back; a call that runs goes on, and is found."""
    registry = Registry(
        lambda info: FakeUpstream(),
        CallLimits(max_calls=5, max_listeners_per_call=3, call_limit_s=3600, max_loop_lag_ms=100),
    )
    async with registry:
        running = registry.open(Terms(), transport=WEBSOCKET)
        _measure(registry.admission.lag, 1000, times=5)
        with pytest.raises(Overloaded) as caught:
            registry.open(Terms(), transport=WEBSOCKET)
        assert (caught.value.http_status, caught.value.code) == (503, "server_overloaded")
        assert int(caught.value.headers["Retry-After"]) > 0
        assert registry.find(running.info.id) is running


async def test_a_loop_that_does_not_keep_up(serve_with: ServeWith, offer: str) -> None:
    """While the loop is kept busy, offers and sockets get 503 with Retry-After; a call that runs is not ended."""
    async with serve_with(max_loop_lag_ms=20) as daemon, open_socket(daemon.url, "model=m") as running:
        loop = asyncio.get_running_loop()
        timer: asyncio.Handle

        def be_busy() -> None:
            until = time.perf_counter() + 0.08
            while time.perf_counter() < until:
                pass
            nonlocal timer
            timer = loop.call_later(0.001, be_busy)

        timer = loop.call_soon(be_busy)
        try:
            async with asyncio.timeout(scaled(15)):
                sdp = {"Content-Type": "application/sdp"}
                reply = await request("POST", f"{daemon.url}v1/realtime/calls", headers=sdp, body=offer)
                while reply.status == 201:
                    reply = await request("POST", f"{daemon.url}v1/realtime/calls", headers=sdp, body=offer)
        finally:
            timer.cancel()
        assert (reply.status, reply.json["error"]["code"]) == (503, "server_overloaded")
        assert int(reply.headers["retry-after"]) > 0
        await running.send({"type": "session.update", "session": {"type": "realtime", "instructions": "Hm."}})
        await running.until("session.updated")
