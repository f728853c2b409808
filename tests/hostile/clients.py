"""Attacks by whoever has a key, over the doors that it opens: each function is run by an attacker's process."""

import asyncio
import json
import socket as socket_module
import time
from collections import Counter

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.hostile.attacker import under_way
from tests.hostile.stage import OPERATOR, Address

__all__ = ["abandoned_calls", "big_items", "costly_messages", "dials", "minting"]

_OPTIONS = {"compression": None, "proxy": None, "max_size": None, "additional_headers": OPERATOR}


_BIG = {
    "sound": lambda megabytes: {"type": "input_audio", "audio": "AAAA" * (megabytes << 18)},
    "pictures": lambda megabytes: {
        "type": "input_image",
        "image_url": "data:image/png;base64," + "A" * (megabytes << 20),
    },
}


def big_items(address: Address, kind: str, megabytes: int, count: int, conversations: int) -> dict[str, int]:
    """Messages with sound or pictures of so many megabytes each; what was answered, by type or error code."""
    return asyncio.run(_big_items(address, kind, megabytes, count, conversations))


async def _big_items(address: Address, kind: str, megabytes: int, count: int, conversations: int) -> dict[str, int]:
    item = {"type": "message", "role": "user", "content": [_BIG[kind](megabytes)]}
    event = json.dumps({"type": "conversation.item.create", "item": item})
    seen: Counter[str] = Counter()

    async def converse() -> None:
        url = f"ws://127.0.0.1:{address.port}/v1/realtime?model=any"
        async with connect(url, **_OPTIONS) as socket:  # type: ignore[arg-type]
            await socket.recv()
            for _ in range(count):
                await socket.send(event)
                answer = json.loads(await socket.recv())
                while answer["type"] not in ("error", "conversation.item.done"):
                    answer = json.loads(await socket.recv())
                seen[answer["error"]["code"] if answer["type"] == "error" else answer["type"]] += 1

    async def until_closed() -> None:
        try:
            await converse()
        except ConnectionClosed as error:
            seen[f"closed {error.rcvd.code if error.rcvd else 1006}"] += 1

    await asyncio.gather(*(until_closed() for _ in range(conversations)))
    return dict(seen)


def abandoned_calls(address: Address, key: str, count: int) -> dict[str, int]:
    """Opens so many calls with one key, then breaks every connection; the statuses that it got."""
    return asyncio.run(_abandoned_calls(address, key, count))


async def _abandoned_calls(address: Address, key: str, count: int) -> dict[str, int]:
    seen: Counter[str] = Counter()
    url = f"ws://127.0.0.1:{address.port}/v1/realtime?model=any"
    options = {**_OPTIONS, "additional_headers": {"Authorization": f"Bearer {key}"}}
    held = []
    for _ in range(count):
        try:
            held.append(await connect(url, **options))  # type: ignore[arg-type]
        except InvalidStatus as error:
            seen[str(error.response.status_code)] += 1
        else:
            seen["101"] += 1
    for socket in held:
        socket.transport.abort()
    return dict(seen)


def minting(address: Address, seconds: float) -> list[int]:
    """Asks for one key after the other, until nobody answers or the time is over; the statuses in order."""
    head = "POST /v1/realtime/client_secrets HTTP/1.1\r\nHost: 127.0.0.1\r\n"
    head += f"Authorization: {OPERATOR['Authorization']}\r\n"
    seen = []
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            with socket_module.create_connection(("127.0.0.1", address.port), timeout=2) as connection:
                connection.sendall(head.encode() + b"Content-Length: 0\r\nConnection: close\r\n\r\n")
                answer = connection.recv(65_536)
        except OSError:
            break
        if not answer:
            break
        seen.append(int(answer.split(b" ", 2)[1]))
        if len(seen) == 1:
            under_way()
    return seen


def _update(session: str) -> str:
    return '{"type": "session.update", "session": {"type": "realtime", ' + session + "}}"


def _create(content: str) -> str:
    item = '{"type": "message", "role": "user", "content": [' + content + "]}"
    return '{"type": "conversation.item.create", "item": ' + item + "}"


def _listed(what: str, count: int) -> str:
    return ",".join(what % number for number in range(count))


_TOOL, _PART = '{"type":"function","name":"f%d"}', '{"type":"input_text","text":"%d"}'
_COSTLY = {
    "array": lambda: '{"type": "x", "a": [' + "0," * (4 << 20) + "0]}",
    "keys": lambda: _update(_listed('"k%d": 0', 400_000)),
    "tools": lambda: _update('"tools": [' + _listed(_TOOL, 100_000) + "]"),
    "parts": lambda: _create(_listed(_PART, 300_000)),
    "strings": lambda: '{"type": "x", "a": [' + '"",' * 600_000 + '""]}',
    "escapes": lambda: _create('{"type": "input_text", "text": "' + '\\"' * (8 << 20) + '"}'),
    "spaces": lambda: " " * (16 << 20) + '{"type": "x"}',
    "broken": lambda: _create('{"type": "input_text", "text": "' + "a" * (14 << 20))[:-5],
    "many_tools": lambda: _update('"tools": [' + _listed(_TOOL, 4_000) + "]"),
    "many_parts": lambda: _create(_listed(_PART, 4_000)),
    "many_keys": lambda: _update(_listed('"k%d": 0', 30_000)),
}


def costly_messages(address: Address, kind: str, count: int, dialect: str) -> dict[str, int]:
    """The same message so many times over one socket; what was answered, by type or error code."""
    return asyncio.run(_costly_messages(address, _COSTLY[kind](), count, dialect))


async def _costly_messages(address: Address, message: str, count: int, dialect: str) -> dict[str, int]:
    seen: Counter[str] = Counter()
    url = f"ws://127.0.0.1:{address.port}/v1/realtime?model=any"
    headers = {**OPERATOR, **({"OpenAI-Beta": "realtime=v1"} if dialect == "beta" else {})}
    async with connect(url, **{**_OPTIONS, "additional_headers": headers}) as socket:  # type: ignore[arg-type]
        await socket.recv()
        for _ in range(count):
            await socket.send(message)
            answer = json.loads(await socket.recv())
            while answer["type"] not in ("error", "conversation.item.done", "session.updated"):
                answer = json.loads(await socket.recv())
            seen[answer["error"]["code"] if answer["type"] == "error" else answer["type"]] += 1
    return dict(seen)


def dials(address: Address, models: list[str]) -> tuple[list[str], float]:
    """One call to each model; what each was told in the end, and how long the slowest waited, in seconds."""
    return asyncio.run(_dials(address, models))


async def _dials(address: Address, models: list[str]) -> tuple[list[str], float]:
    async def told(model: str) -> tuple[str, float]:
        began = time.monotonic()
        async with connect(f"ws://127.0.0.1:{address.port}/v1/realtime?model={model}", **_OPTIONS) as socket:  # type: ignore[arg-type]
            event = json.loads(await socket.recv())
            while event["type"] != "error":
                event = json.loads(await socket.recv())
        return event["error"]["code"], time.monotonic() - began

    under_way()
    codes, seconds = zip(*await asyncio.gather(*map(told, models)), strict=True)
    return list(codes), max(seconds)
