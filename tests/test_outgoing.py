"""Requests that the bridge makes: nothing is read from the disk while sound flows."""

import json
import subprocess
import sys

_PROGRAM = """
import asyncio, json, sys
from bridge.outgoing import new_client

async def answer(reader, writer):
    await reader.readuntil(b"\\r\\n\\r\\n")
    writer.write(b"HTTP/1.1 200 OK\\r\\nContent-Length: 2\\r\\nConnection: close\\r\\n\\r\\n{}")
    writer.close()
    await writer.wait_closed()

async def ask():
    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        before = set(sys.modules)
        async with new_client(10.0) as http:
            assert (await http.get(url)).json() == {}
        return sorted(set(sys.modules) - before)

print(json.dumps(asyncio.run(ask())))
"""


def test_the_first_request_imports_nothing() -> None:
    """What a request needs has been loaded with the daemon: reading it then would stop all sound for a moment."""
    run = subprocess.run([sys.executable, "-c", _PROGRAM], capture_output=True, text=True, check=True)
    assert json.loads(run.stdout) == []
