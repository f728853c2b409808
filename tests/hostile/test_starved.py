"""More calls than the processor serves: the daemon is given a tenth of the time, whatever the machine has."""

import asyncio
import signal
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from benchmarks.kit.load import Clock, LoadPeer, Weather
from bridge.webrtc.dtls import new_certificate
from tests.end_to_end.web import request
from tests.hostile.stage import OPERATOR, Target
from tests.machine import scaled

pytestmark = [pytest.mark.alone, pytest.mark.slow, pytest.mark.timeout(90)]

_CALLS = 30
_STOPPED_S, _RUNNING_S = 0.45, 0.05
_STARVED_S = 6.0
_LIMIT_S = scaled(15.0)


@contextmanager
def _starved(target: Target) -> Iterator[None]:
    """The daemon's process stands still for nine tenths of the time."""
    is_over = threading.Event()

    def starve() -> None:
        while not is_over.is_set():
            target.process.send_signal(signal.SIGSTOP)
            is_over.wait(_STOPPED_S)
            target.process.send_signal(signal.SIGCONT)
            is_over.wait(_RUNNING_S)

    starving = threading.Thread(target=starve)
    starving.start()
    try:
        yield
    finally:
        is_over.set()
        starving.join()
        target.process.send_signal(signal.SIGCONT)


@asynccontextmanager
async def _calls(target: Target) -> AsyncIterator[list[LoadPeer]]:
    """Peers that speak all the while."""

    async def signal_offer(offer: str) -> bytes:
        headers = {**OPERATOR, "Content-Type": "application/sdp"}
        reply = await request("POST", f"{target.url}v1/realtime/calls", headers=headers, body=offer)
        assert reply.status == 201, reply
        return reply.body

    certificate, clock = new_certificate(), Clock()
    peers: list[LoadPeer] = []
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(clock.run())
        try:
            for number in range(_CALLS):
                peer = LoadPeer(certificate, number, Weather())
                await peer.connect("127.0.0.1", signal_offer)
                clock.add(peer.send_frame, peer.keep_alive)
                peers.append(peer)
            clock.is_speaking = True
            yield peers
        finally:
            running.cancel()
            await asyncio.gather(*(peer.aclose() for peer in peers))


async def _spoken(target: Target) -> dict[str, int]:
    """How many packets have come from each peer until now."""
    reply = await request("GET", f"{target.url}v1/calls", headers=OPERATOR)
    calls = [call for call in reply.json["data"] if call["transport"] == "webrtc"]
    return {call["id"]: call["peer"]["packets"] for call in calls}


async def _status_of_a_new_call(target: Target) -> tuple[int, str]:
    """101, and then it is over; or why not, and when to come back."""
    url = f"{target.url.replace('http', 'ws', 1)}v1/realtime?model=any"
    try:
        async with connect(url, additional_headers=OPERATOR, proxy=None, open_timeout=_LIMIT_S):
            return 101, ""
    except InvalidStatus as error:
        return error.response.status_code, error.response.headers.get("Retry-After", "")


async def test_running_calls_live_and_new_ones_are_refused(target: Target) -> None:
    """503 with Retry-After while it lasts; then all calls are there, their sound comes, and new ones are taken."""
    async with asyncio.timeout(3 * _LIMIT_S), _calls(target) as peers:
        seen: set[tuple[int, str]] = set()
        with _starved(target):
            until = time.monotonic() + _STARVED_S
            while time.monotonic() < until:
                seen.add(await _status_of_a_new_call(target))
        assert 503 in {status for status, _ in seen}, seen
        assert all(retry for status, retry in seen if status == 503)
        while (await _status_of_a_new_call(target))[0] == 503:
            pass
        before = await _spoken(target)
        assert len(before) == _CALLS
        while any(packets <= before[name] for name, packets in (await _spoken(target)).items()):
            pass
        assert [peer.faults for peer in peers] == [[]] * _CALLS
        assert (await _spoken(target)).keys() == before.keys()
