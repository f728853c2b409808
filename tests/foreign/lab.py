"""A caller's network with a router between it and the bridge, and a relay beside the bridge.

The caller has a namespace of its own, and so has the router, which hides it (NAT) and lets through what a test says.
The bridge and coturn are on the machine itself::

    caller ── router ── bridge, relay
"""

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from websockets.asyncio.client import ClientConnection, connect

from bridge.daemon import Daemon
from bridge.webrtc.ice import IceLite
from bridge.webrtc.peer import Peer
from tests.certificate import write_signed_certificate
from tests.end_to_end.parrot_agent import ParrotAgent
from tests.foreign.network import Network, inside, network
from tests.machine import scaled
from tests.processes import ran, started
from tests.settings import config_for_tests

__all__ = ["API_KEY", "TUNNEL_PORT", "Lab", "speaking_agent"]

API_KEY, _SECRET = "sk-test", "the relay's secret"
RELAY_NAME = "relay.test"
"""By which callers know it: Firefox speaks no TLS to a relay that has an address alone."""
TUNNEL_PORT = 34_780
"""Where a program on the caller's own machine takes what it brings to the relay over TLS."""
_PORT, _TLS_PORT = 3478, 5349
_LIMIT_S = scaled(10.0)


class _SpeakingAgent(ParrotAgent):
    """Says what it is told to, once more if it is cut because the caller has another peer, and hears nothing."""

    def __init__(self, socket: ClientConnection, sound: bytes) -> None:
        super().__init__(socket)
        self._says = sound

    async def speak(self) -> None:
        """Says it."""
        await self._answer(self._says)

    async def _hear(self, sound: bytes) -> None:
        """Nothing."""

    async def _obey(self, event: dict[str, Any]) -> None:
        if event["type"] == "conversation.item.truncate":
            await self.speak()
        await super()._obey(event)


@asynccontextmanager
async def speaking_agent(url: str, sound: bytes) -> AsyncIterator[None]:
    """Waits for the next call at ``url``, and says ``sound`` to it once it is there."""
    address = url.replace("http", "ws", 1) + "v1/realtime?role=agent"
    headers = {"Authorization": f"Bearer {API_KEY}"}
    async with connect(address, additional_headers=headers) as socket, asyncio.TaskGroup() as group:
        agent = _SpeakingAgent(socket, sound)
        running = group.create_task(agent.run())

        async def speak() -> None:
            while not agent.heard:  # noqa: ASYNC110 (the agent tells nobody)
                await asyncio.sleep(0.01)
            await agent.speak()

        speaking = group.create_task(speak())
        yield
        for task in (speaking, running):
            task.cancel()


@dataclass(slots=True)
class _Links:
    """The names of interfaces and their addresses, as the router has them."""

    wan: str
    lan: str
    caller: str
    own: str


async def _batch(*commands: tuple[str, str]) -> None:
    """``ip`` commands, each in its namespace, the machine's own if that is empty."""
    lines = [f"ip {f'-n {namespace} ' if namespace else ''}{words}" for namespace, words in commands]
    code, _, complaint = await ran("sh", "-e", "-x", "-c", "\n".join(lines))
    assert code == 0, complaint


class Lab:
    """See the module. ``opened`` makes one."""

    daemon: Daemon
    url: str
    url6: str
    """By IPv6."""
    router: str
    caller: str
    """The two namespaces."""
    bridge: str
    """The address of the bridge, and of the relay too."""
    bridge6: str
    caller6: str
    authority: Path
    """The certificate of the one that has signed the relay's."""
    outside: str
    """The address behind which the router hides the caller."""

    def __init__(self, folder: Path, net: Network) -> None:
        self.folder = folder
        self._net = net
        self._links = _Links("", "", "", "")
        self._counts_tls = False
        self._at = self._gateway = self._gateway6 = ""

    @classmethod
    @asynccontextmanager
    async def opened(cls, folder: Path, **settings: Any) -> AsyncIterator["Lab"]:
        """With a daemon of these settings whose calls are answered by an agent."""
        async with network() as net, AsyncExitStack() as stack:
            lab = cls(folder, net)
            await lab._lay()
            net.name_host(lab.caller, RELAY_NAME, lab.bridge)
            await lab._start_relay(stack)
            host = f"[{lab.bridge6}]"
            transports = [f"turn:{lab.bridge}:{_PORT}?transport={transport}" for transport in ("udp", "tcp")]
            config = config_for_tests(
                **{
                    "host": "::",
                    "advertise": (lab.bridge, lab.bridge6),
                    "api_key": (API_KEY,),
                    "upstream": "agent",
                    "turn_url": (*transports, f"turns:{RELAY_NAME}:{_TLS_PORT}?transport=tcp"),
                    "turn_secret": _SECRET,
                    **settings,
                }
            )
            lab.daemon = await stack.enter_async_context(Daemon(config))
            lab.url = f"http://{lab.bridge}:{lab.daemon.port}/"
            lab.url6 = f"http://{host}:{lab.daemon.port}/"
            yield lab

    def where(self) -> tuple[str, ...]:
        """What stands before the caller's command."""
        return inside(self.caller)

    # What the network is like

    @asynccontextmanager
    async def without_udp(self) -> AsyncIterator[None]:
        """The router drops every datagram."""
        await self._nft("add rule inet lab passing meta l4proto udp drop")
        try:
            yield
        finally:
            await self._nft("flush chain inet lab passing")

    @asynccontextmanager
    async def only_tls(self) -> AsyncIterator[None]:
        """The router drops every datagram, and what goes to the relay in the clear: STUN's first byte is no TLS."""
        await self._nft(
            "add rule inet lab passing meta l4proto udp drop",
            f"add rule inet lab passing tcp dport {{ {_PORT}, {_TLS_PORT} }} @ih,0,8 0 drop",
        )
        try:
            yield
        finally:
            await self._nft("flush chain inet lab passing")

    @asynccontextmanager
    async def tunnelled(self) -> AsyncIterator[None]:
        """The same, and the caller has a program that wraps what goes to the relay in TLS."""
        found = shutil.which("socat")
        assert found, "needs socat: make foreign"
        listening = f"TCP-LISTEN:{TUNNEL_PORT},bind=127.0.0.1,fork,reuseaddr"
        tls = f"OPENSSL:{RELAY_NAME}:{_TLS_PORT},cafile={self.authority}"
        async with self.only_tls(), started(*self.where(), found, "-d", "-d", listening, tls) as tunnel:
            assert tunnel.stderr is not None
            async with asyncio.timeout(_LIMIT_S):
                while b"listening" not in await tunnel.stderr.readline():
                    pass
            yield

    async def tls_records(self) -> int:
        """How many segments to the relay's port for TLS the router has counted that begin as a handshake does.

        It counts from the first call on.
        """
        if not self._counts_tls:
            self._counts_tls = True
            await self._nft(
                "add counter inet lab tls",
                "add chain inet lab counting { type filter hook forward priority -1 ; }",
                f"add rule inet lab counting tcp dport {_TLS_PORT} @ih,0,8 22 counter name tls",
            )
        code, told, complaint = await ran(*inside(self.router), "nft", "list counter inet lab tls")
        assert code == 0, complaint
        return int(told.split("packets ")[1].split()[0])

    @asynccontextmanager
    async def only_ipv6(self) -> AsyncIterator[None]:
        """The caller has an IPv6 address and no other."""
        name = self._links.caller
        try:
            await _batch(
                (self.caller, f"-6 address add {self.caller6}/64 dev {name} nodad"),
                (self.caller, f"-6 route replace default via {self._gateway6}"),
                (self.caller, f"address del {self._at}/30 dev {name}"),
            )
            yield
        finally:
            await _batch(
                (self.caller, f"address replace {self._at}/30 dev {name}"),
                (self.caller, f"route replace default via {self._gateway}"),
                (self.caller, "-6 route del default"),
                (self.caller, f"-6 address del {self.caller6}/64 dev {name}"),
            )

    async def move(self) -> None:
        """The caller leaves its address, and has another one; nothing that comes for the old one arrives any more."""
        name = self._links.caller
        gateway, address = self._net.next_pair()
        before = self._at
        await _batch(
            (self.router, f"address add {gateway}/30 dev {self._links.lan}"),
            (self.caller, f"address add {address}/30 dev {name}"),
            (self.caller, f"address del {before}/30 dev {name}"),
            (self.caller, f"route replace default via {gateway}"),
        )
        self._at, self._gateway = address, gateway

    async def rebind(self) -> None:
        """The router has another address outside, and forgets whom it has hidden behind the old one."""
        name = self._links.wan
        _, address = self._net.next_pair()
        before = self.outside
        await _batch(
            ("", f"route add {address}/32 dev {self._links.own} src {self.bridge}"),
            (self.router, f"address add {address}/30 dev {name}"),
            (self.router, f"address del {before}/30 dev {name}"),
            (self.router, f"route replace default via {self.bridge} dev {name} onlink"),
        )
        self.outside = address

    # What the bridge sees

    def peer(self, call_id: str) -> Peer:
        """The peer of a call."""
        peer = self.daemon.registry.find(call_id).legs.current
        assert isinstance(peer, Peer)
        return peer

    def seen_at(self, call_id: str) -> tuple[str, str, str]:
        """The address and port from which the call's media comes, and ``udp`` or ``tcp``."""
        ice = self.peer(call_id).ice
        assert isinstance(ice, IceLite)
        host, port, *_, last = ice.address or ("", 0, "")
        return host.removeprefix("::ffff:"), str(port), "tcp" if last == "tcp" else "udp"

    # Inside

    async def _lay(self) -> None:
        self.router, self.caller = await self._net.namespace(), await self._net.namespace()
        self.bridge, self.outside = await self._net.link(None, self.router)
        own, wan = self._net.names
        self._gateway, self._at = await self._net.link(self.router, self.caller)
        lan, caller = self._net.names
        self._links = _Links(wan=wan, lan=lan, caller=caller, own=own)
        part = format(int(self.bridge.split(".")[2]) << 8 | int(self.bridge.split(".")[3]), "x")
        self.bridge6, router6 = f"fd00:{part}:1::1", f"fd00:{part}:1::2"
        self._gateway6, self.caller6 = f"fd00:{part}:2::1", f"fd00:{part}:2::2"
        await _batch(
            ("", f"-6 address add {self.bridge6}/64 dev {own} nodad"),
            (self.router, f"-6 address add {router6}/64 dev {wan} nodad"),
            (self.router, f"-6 address add {self._gateway6}/64 dev {lan} nodad"),
            ("", f"-6 route add fd00:{part}:2::/64 via {router6}"),
            (self.router, f"route add default via {self.bridge}"),
            (self.caller, f"route add default via {self._gateway}"),
        )
        for name in ("net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"):
            code, _, complaint = await ran(*inside(self.router), "sh", "-c", f"echo 1 >/proc/sys/{name}")
            assert code == 0, complaint
        await self._nft(
            "add table inet lab",
            "add chain inet lab passing { type filter hook forward priority 0 ; }",
            "add chain inet lab leaving { type nat hook postrouting priority 100 ; }",
            f"add rule inet lab leaving oifname {wan} ip version 4 masquerade",
        )

    async def _nft(self, *rules: str) -> None:
        found = shutil.which("nft")
        assert found, "needs nftables: make foreign"
        code, _, complaint = await ran(*inside(self.router), found, "\n".join(rules))
        assert code == 0, f"{rules}: {complaint}"

    async def _start_relay(self, stack: AsyncExitStack) -> None:
        found = shutil.which("turnserver")
        assert found, "needs coturn: make foreign"
        self.authority, certificate, key = write_signed_certificate(self.folder, RELAY_NAME)
        command = [
            *(found, "-n", "--use-auth-secret", f"--static-auth-secret={_SECRET}", "--realm=test"),
            *(f"--listening-ip={self.bridge}", f"--listening-port={_PORT}", f"--tls-listening-port={_TLS_PORT}"),
            *(f"--relay-ip={self.bridge}", f"--cert={certificate}", f"--pkey={key}", "--no-dtls", "--no-cli"),
            *("--denied-peer-ip=0.0.0.0-255.255.255.255", f"--allowed-peer-ip={self.bridge}"),  # as the guide has it
            *("--log-file=stdout", "--simple-log", f"--pidfile={self.folder / 'turn.pid'}"),
            f"--userdb={self.folder / 'turn.db'}",
        ]
        output = stack.enter_context((self.folder / "turn.log").open("wb"))
        await stack.enter_async_context(started(*command, stdout=output, stderr=asyncio.subprocess.STDOUT))
        async with asyncio.timeout(_LIMIT_S):
            for port in (_PORT, _TLS_PORT):
                while True:
                    with suppress(ConnectionRefusedError):
                        _, writer = await asyncio.open_connection(self.bridge, port)
                        writer.close()
                        break
                    await asyncio.sleep(0.02)
