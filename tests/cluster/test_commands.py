"""Every command that a cluster gives Redis is one that Redis 6.2, and so any Valkey, has; the server itself knows."""

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from tests.cluster.redis import redis_running
from tests.machine import scaled

pytestmark = pytest.mark.foreign

_CLUSTER = Path(__file__).parents[2] / "bridge" / "cluster"
_OLDEST = (6, 2, 0)


@pytest.fixture
async def client() -> AsyncIterator[Redis]:
    """Of a server that says when it got each command: Redis since 7.0."""
    async with redis_running() as running:
        client = Redis.from_url(running.url, decode_responses=True)
        yield client
        await client.aclose()


def _in_scripts(source: str) -> set[str]:
    return {name.upper() for name in re.findall(r"redis\.call\('(\w+)'", source)}


def _words(source: str) -> set[str]:
    """Whatever may be a command, or a word in one."""
    return {*re.findall(r'"([A-Z]{2,})"', source), *re.findall(r"'([A-Z]{2,})'", source)}


def _version(text: str) -> tuple[int, ...]:
    return tuple(map(int, text.split(".")))


def _pairs(told: Any) -> dict[str, Any]:
    """What ``COMMAND DOCS`` says, as a dictionary: it comes as a list of names and values."""
    return told if isinstance(told, dict) else dict(zip(told[::2], told[1::2], strict=True))


def _arguments(told: list[Any]) -> Iterator[dict[str, Any]]:
    for argument in map(_pairs, told):
        yield argument
        yield from _arguments(argument.get("arguments", []))


async def _docs(client: Redis, names: set[str]) -> dict[str, dict[str, Any]]:
    told = _pairs(await client.execute_command("COMMAND DOCS", *sorted(names)))  # type: ignore[no-untyped-call]
    return {name.upper(): _pairs(doc) for name, doc in told.items()}


async def test_commands_and_their_options_are_old_enough(client: Redis) -> None:
    """Those in the scripts, and those that are sent; nothing that came with 7.0, such as sharded subscriptions."""
    async with asyncio.timeout(scaled(30.0)):
        sources = [path.read_text() for path in sorted(_CLUSTER.glob("*.py"))]
        words = {word for source in sources for word in _words(source)}
        used = {name for source in sources for name in _in_scripts(source)}
        docs = await _docs(client, used | words | {"EVAL", "EVALSHA"})
        assert used <= docs.keys()
        assert {"XADD", "XREAD", "SET", "HSET", "EVALSHA"} <= docs.keys()
        newer = [name for name, doc in docs.items() if _version(doc["since"]) > _OLDEST]
        options = [
            (name, argument["token"])
            for name, doc in docs.items()
            for argument in _arguments(doc.get("arguments", []))
            if _version(argument.get("since", "1.0.0")) > _OLDEST and argument.get("token") in words
        ]
        assert (newer, options) == ([], [])


async def test_a_newer_command_would_be_seen(client: Redis) -> None:
    """The server's word is what is judged: it says that these are younger."""
    docs = await _docs(client, {"SPUBLISH", "EXPIRE"})
    assert _version(docs["SPUBLISH"]["since"]) > _OLDEST
    assert any(argument.get("since") == "7.0.0" for argument in _arguments(docs["EXPIRE"]["arguments"]))
