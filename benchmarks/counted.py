"""``bridge serve`` that counts what it holds: ``python -m benchmarks.counted [options of bridge serve]``.

Nothing but two signals is added. At each SIGUSR1 it writes one line of JSON to its standard output, with the asyncio
tasks, the calls, the peers and the addresses that it holds, and what its C library has given out and keeps. At each
SIGUSR2 it looks for garbage first, which stops all sound for a moment, and counts the objects that are left.
"""

import asyncio
import ctypes
import gc
import json
import signal
import sys

from bridge import cli
from bridge.daemon import Daemon

__all__: list[str] = []

_START = Daemon.__aenter__


class _Mallinfo(ctypes.Structure):
    """``struct mallinfo2`` of glibc 2.33, see mallinfo(3)."""

    _fields_ = tuple(
        (name, ctypes.c_size_t)
        for name in "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost".split()
    )


async def _start(daemon: Daemon) -> Daemon:
    """Starts it, and from then on it tells by signal what it holds."""
    await _START(daemon)

    def tell(**more: int) -> None:
        endpoint = daemon.endpoint
        held = {
            "tasks": len(asyncio.all_tasks()),
            "calls": len(daemon.registry.sessions),
            "peers": len(endpoint.peers),
            "addresses": len(endpoint.mux.by_address) + len(endpoint.mux.agents),
        }
        print(json.dumps({**held, **_allocated(), **more}), flush=True)

    def tell_objects() -> None:
        gc.collect()
        tell(objects=len(gc.get_objects()))

    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGUSR1, tell)
    loop.add_signal_handler(signal.SIGUSR2, tell_objects)
    return daemon


def _allocated() -> dict[str, int]:
    """Bytes that malloc has given out, and bytes that it keeps for later; nothing if the C library does not tell."""
    try:
        mallinfo = ctypes.CDLL(None).mallinfo2
    except AttributeError:
        return {}
    mallinfo.restype = _Mallinfo
    info = mallinfo()
    return {"malloc_used": info.uordblks + info.hblkhd, "malloc_free": info.fordblks}


if __name__ == "__main__":
    Daemon.__aenter__ = _start  # type: ignore[assignment, method-assign]
    cli.main(["serve", *sys.argv[1:]])
