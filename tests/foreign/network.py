"""Networks of a test's own: namespaces of the kernel, each with a loopback and the links that it is given.

Making them takes root. They are gone when the test ends; what a killed run has left is removed by the next one.
"""

import itertools
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from tests.processes import ran

__all__ = ["Network", "inside", "network"]

_NAMED = Path("/run/netns")
_FILES = Path("/etc/netns")  # what is in a folder there stands in /etc for whoever runs in the namespace of that name
_PREFIX = "bridgetest"
_FIRST = IPv4Address("198.18.0.0")  # RFC 2544: addresses for tests of networks, which no machine has
_PAIRS = 1 << 14
_PAIRS_OF_A_PROCESS = 1 << 5
_numbers = itertools.count()


def inside(namespace: str) -> tuple[str, ...]:
    """What stands before a command that runs in ``namespace``."""
    return "ip", "netns", "exec", namespace


async def _ip(*words: str) -> None:
    code, _, complaint = await ran("ip", *words)
    if code:
        pytest.fail(f"ip {' '.join(words)}: {complaint.strip()} (these tests need root; make check leaves them out)")


class Network:
    """Namespaces and the links between them; nothing is forwarded from one link to another."""

    def __init__(self) -> None:
        self.namespaces: list[str] = []
        self.own_ends: list[str] = []
        """The ends of links that are the machine's own."""
        self.names = ("", "")
        """Of the two ends of the last link."""

    async def namespace(self) -> str:
        """A new one, by its name; it has a loopback and nothing else."""
        name = f"{_PREFIX}-{os.getpid()}-{next(_numbers)}"
        self.namespaces.append(name)
        await _ip("netns", "add", name)
        await _ip("-n", name, "link", "set", "lo", "up")
        return name

    async def link(self, one: str | None, other: str) -> tuple[str, str]:
        """A cable between two namespaces, the machine's own if ``one`` is None; the addresses of its two ends."""
        addresses, number = self.next_pair(), next(_numbers)
        names = self.names = f"bt{os.getpid():x}x{number:x}a", f"bt{os.getpid():x}x{number:x}b"
        if one is None:
            self.own_ends.append(names[0])
        there = ("netns", one) if one else ()
        await _ip("link", "add", names[0], *there, "type", "veth", "peer", "name", names[1], "netns", other)
        for name, namespace, address in zip(names, (one, other), addresses, strict=True):
            where = ("-n", namespace) if namespace else ()
            await _ip(*where, "address", "add", f"{address}/30", "dev", name)
            await _ip(*where, "link", "set", name, "up")
        return addresses

    def name_host(self, namespace: str, name: str, address: str) -> None:
        """Programs in ``namespace`` find ``address`` by ``name``, and learn at once that there is no name server."""
        folder = _FILES / namespace
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "resolv.conf").write_text("nameserver 127.0.0.1\n")
        (folder / "hosts").write_text(f"127.0.0.1 localhost\n::1 localhost\n{address} {name}\n")

    def next_pair(self) -> tuple[str, str]:
        """Two addresses of a network that nobody else has, with the prefix 30."""
        pair = (os.getpid() * _PAIRS_OF_A_PROCESS + next(_numbers) % _PAIRS_OF_A_PROCESS) % _PAIRS
        return str(_FIRST + 4 * pair + 1), str(_FIRST + 4 * pair + 2)


def _left_over() -> list[str]:
    """Namespaces of test runs that were killed."""
    names = [path.name for path in _NAMED.glob(f"{_PREFIX}-*")]
    return [name for name in names if not Path("/proc", name.split("-")[1]).exists()]


@asynccontextmanager
async def network() -> AsyncIterator[Network]:
    """At the end of the block all of it is gone."""
    for name in _left_over():
        await ran("ip", "netns", "delete", name)  # another process of this run may have been quicker
        shutil.rmtree(_FILES / name, ignore_errors=True)
    made = Network()
    try:
        yield made
    finally:
        for name in made.own_ends:  # a program that is still there would keep its namespace, and that its links
            await ran("ip", "link", "delete", name)
        for name in made.namespaces:
            await ran("ip", "netns", "delete", name)
            shutil.rmtree(_FILES / name, ignore_errors=True)
