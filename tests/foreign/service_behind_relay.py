"""A Realtime service on aiortc whose media has a network of its own, run as a program:
``python -m tests.foreign.service_behind_relay NAMESPACE INPUTS``.

It takes offers on loopback of the network that it was started in, and then moves into ``NAMESPACE``. It answers one
turn with the sound in the file ``answer``, and hangs up when its standard input ends, if ``hangsUp`` says so. What it
observes it prints as JSON, an observation a line.
"""

import asyncio
import base64
import ctypes
import json
import os
import sys
from pathlib import Path
from typing import Any

from tests.machine import scaled
from tests.upstream.aiortc_service import AiortcService

__all__: list[str] = []

_NETWORK = 0x40000000  # CLONE_NEWNET
_LIMIT_S = scaled(30.0)


def _move_to(namespace: str) -> None:
    """Sockets that are made from now on belong to ``namespace``; those that are there stay where they are."""
    with open(f"/run/netns/{namespace}") as place:
        if ctypes.CDLL(None, use_errno=True).setns(place.fileno(), _NETWORK):
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def _observe(kind: str, **fields: Any) -> None:
    sys.stdout.write(json.dumps({"type": kind, **fields}) + "\n")
    sys.stdout.flush()


async def _serve(namespace: str, inputs: dict[str, Any], answer: bytes) -> None:
    async with AiortcService.serving() as service:
        _move_to(namespace)
        _observe("service.ready", url=service.url)
        ended = asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
        if "answer" in inputs:
            call = await service.call(1)
            gone = asyncio.Event()

            def changed() -> None:
                if call.connection.connectionState == "closed":
                    gone.set()

            call.connection.on("connectionstatechange", changed)
            await call.hear("response.create")
            _observe("peer.heard", pcm=base64.b64encode(call.heard).decode(), rate_hz=24_000)
            await call.answer(answer)
            if not inputs["hangsUp"]:
                async with asyncio.timeout(_LIMIT_S):
                    await gone.wait()
                _observe("peer.gone")
        await ended


if __name__ == "__main__":
    inputs = json.loads(sys.argv[2])
    asyncio.run(_serve(sys.argv[1], inputs, Path(inputs.get("answer", os.devnull)).read_bytes()))
