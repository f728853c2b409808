"""Every way in with every way out: how a caller comes and who answers are chosen independently."""

import asyncio
from contextlib import AsyncExitStack
from typing import Literal

import pytest

from bridge.client.address import CallFailed
from bridge.client.call import Call, Plan
from bridge.daemon import Daemon
from tests.end_to_end.conftest import ServeWith
from tests.end_to_end.parrot_agent import attached_agent
from tests.end_to_end.sound import match, samples_of
from tests.machine import scaled

_TRANSPORTS: tuple[Literal["webrtc", "websocket"], ...] = ("webrtc", "websocket")
_LIKENESS = 0.85  # up to four generations of Opus at 32 kbit/s; 0.92 is what one leaves at the least
_LEAST_ANSWER_S = 1.8  # of the 2.2 s that are spoken


async def _likeness(daemon: Daemon, transport: Literal["webrtc", "websocket"], pcm: bytes) -> tuple[float, float]:
    """How much the answer is like what was said, and how long it was."""
    call = Call(Plan(url=daemon.url, transport=transport, pcm=pcm, timeout_s=scaled(15)))
    summary = await call.run()
    return match(samples_of(call.answer.pcm), samples_of(pcm)).correlation, summary.answer_s


@pytest.mark.alone
async def test_every_way_in_with_every_way_out(serve_with: ServeWith, short_pcm: bytes) -> None:
    """Over WebRTC and over WebSocket, the embedded engine, a service over either, a chain and an agent all answer."""
    async with AsyncExitStack() as stack:
        local = await stack.enter_async_context(serve_with())
        over_websocket = f"ws://127.0.0.1:{local.port}/v1/realtime"
        over_webrtc = f"http://127.0.0.1:{local.port}/v1/realtime/calls"
        daemons = {
            "local": local,
            "websocket": await stack.enter_async_context(serve_with(upstream=over_websocket)),
            "webrtc": await stack.enter_async_context(serve_with(upstream=over_webrtc)),
            "agent": await stack.enter_async_context(serve_with(upstream="agent")),
        }
        through = f"http://127.0.0.1:{daemons['websocket'].port}/v1/realtime/calls"
        daemons["chain"] = await stack.enter_async_context(serve_with(upstream=through))
        for _ in _TRANSPORTS:
            await stack.enter_async_context(attached_agent(daemons["agent"].url))
        async with asyncio.TaskGroup() as calls:
            running = {
                (transport, upstream): calls.create_task(_likeness(daemon, transport, short_pcm))
                for transport in _TRANSPORTS
                for upstream, daemon in daemons.items()
            }
    results = {cell: task.result() for cell, task in running.items()}
    assert {cell for cell, (likeness, answer_s) in results.items() if likeness < _LIKENESS} == set(), results
    assert {cell for cell, (likeness, answer_s) in results.items() if answer_s < _LEAST_ANSWER_S} == set(), results


async def test_a_call_without_an_agent_ends(serve_with: ServeWith, short_pcm: bytes) -> None:
    """A call that waits for an agent in vain is told so, within the time that is set."""
    async with serve_with(upstream="agent", agent_wait_s=0.2) as daemon:
        call = Call(Plan(url=daemon.url, transport="websocket", pcm=short_pcm, timeout_s=10))
        with pytest.raises(CallFailed, match=r"No agent attached with role=agent within 0\.2 s"):
            await call.run()
