"""What a call takes it gives back: threads, tasks, file descriptors, sessions and addresses."""

import asyncio
import base64
import gc
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from pathlib import Path

import psutil
import pytest

import bridge
from bridge.daemon import Daemon
from tests.end_to_end.conftest import ServeWith
from tests.end_to_end.real_peer import RealPeer
from tests.end_to_end.web import open_socket, request

_PEERS = 20
_ROUNDS = 10
_POLLS, _POLL_S = 500, 0.02
_LONG_CALL_S = 30
_LEFT_KB = 150  # of a call that has ended, however long it was, until somebody looks for cycles of references

Held = dict[str, int]


def _held(daemon: Daemon) -> Held:
    process = psutil.Process()
    return {
        "threads": process.num_threads(),
        "file descriptors": process.num_fds(),
        "tasks": len(asyncio.all_tasks()),
        "sessions": len(daemon.registry.sessions),
        "peers": len(daemon.endpoint.peers),
        "addresses": len(daemon.endpoint.mux.by_address) + len(daemon.endpoint.mux.agents),
    }


async def _settled(daemon: Daemon, expected: Held) -> Held:
    """What is held when it is down to ``expected``, or after a while; no event tells of a closed descriptor."""
    for _ in range(_POLLS):
        held = _held(daemon)
        if held == expected:
            break
        await asyncio.sleep(_POLL_S)
    return held


async def _one_round(daemon: Daemon, speech: bytes, *, number: int) -> None:
    """Twenty calls with a listener each, ended in three ways."""
    async with AsyncExitStack() as stack:
        peers = [RealPeer(daemon.url) for _ in range(_PEERS)]
        for peer in peers:
            await stack.enter_async_context(peer)
            await stack.enter_async_context(open_socket(daemon.url, f"call_id={peer.call_id}&audio=g711_ulaw"))
        async with asyncio.TaskGroup() as speaking:
            for peer in peers:
                speaking.create_task(peer.speak(speech))
        for peer in peers[number % 3 :: 3]:
            await request("DELETE", f"{daemon.url}v1/realtime/calls/{peer.call_id}")
        for peer in peers[(number + 1) % 3 :: 3]:
            await peer.hang_up()


@pytest.mark.slow
@pytest.mark.timeout(120)
async def test_ten_rounds_of_twenty_calls_leave_nothing_behind(daemon: Daemon, speech_pcm: bytes) -> None:
    """After every call has ended, by either side, everything is at the count before."""
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))  # aiortc encodes there; its size is no leak
    speech = speech_pcm[2 * 24 * 300 : 2 * 24 * 500]
    nothing = _held(daemon)
    await _one_round(daemon, speech, number=0)
    nothing["threads"] += 1
    before = await _settled(daemon, nothing)
    for number in range(_ROUNDS):
        await _one_round(daemon, speech, number=number)
    assert await _settled(daemon, before) == before
    assert before["sessions"] == before["peers"] == before["addresses"] == 0


async def _long_call(daemon: Daemon) -> None:
    """An owner that says much, a listener that hears it, and an answer in the middle of which all of them go."""
    async with (
        open_socket(daemon.url, "model=any") as owner,
        open_socket(daemon.url, f"call_id={owner.events[0]['session']['id']}&audio=pcm16"),
    ):
        append = {"type": "input_audio_buffer.append", "audio": base64.b64encode(bytes(48_000)).decode()}
        session = {"type": "realtime", "audio": {"input": {"turn_detection": None}}}
        await owner.send({"type": "session.update", "session": session})
        for _ in range(_LONG_CALL_S):
            await owner.send(append)
        await owner.send({"type": "input_audio_buffer.commit"})
        for _ in range(_LONG_CALL_S):
            await owner.send(append)
        await owner.send({"type": "response.create"})
        await owner.until("response.output_audio.delta")


@pytest.mark.slow
@pytest.mark.timeout(120)
async def test_memory_of_a_call_goes_with_it(serve_with: ServeWith) -> None:
    """What a long call held is given back when it ends, and does not wait for the garbage collector."""
    calls = 3
    async with serve_with(resume_grace_s=0) as daemon:
        await _long_call(daemon)
        gc.collect()
        gc.disable()
        tracemalloc.start()
        try:
            for _ in range(calls):
                await _long_call(daemon)
                for session in daemon.registry.sessions:
                    await session.lifetime.closed.wait()
            await _settled(daemon, {**_held(daemon), "sessions": 0})
            ours = tracemalloc.Filter(True, f"{Path(bridge.__file__).parent}/*")
            left = tracemalloc.take_snapshot().filter_traces([ours]).statistics("lineno")
        finally:
            tracemalloc.stop()
            gc.enable()
    assert sum(line.size for line in left) < calls * _LEFT_KB * 1024, [str(line) for line in left[:5]]
