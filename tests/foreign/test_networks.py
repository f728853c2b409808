"""Callers in all kinds of networks: each peer in each, with sound both ways, and how long it takes to connect."""

import asyncio
import itertools
import json
import os
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bridge.webrtc.peer import Peer
from tests.end_to_end.web import request
from tests.foreign.lab import API_KEY, TUNNEL_PORT, Lab, speaking_agent
from tests.foreign.peers import FOLDER
from tests.machine import scaled
from tests.processes import ROOT, ran
from tests.sdk_js.chromium import CHROMIUM_NAMES
from tests.sdk_js.node import Scenario, scenario

_LIMIT_S = scaled(15.0)
_BACK_WITHIN_S = scaled(1.0)
_ANOTHER_WITHIN_S = scaled(2.0)  # it gathers and shakes hands anew
_SHARE_WITHIN_S = {"GStreamer": scaled(0.5)}  # libnice takes its time to answer whether it is at the new address
_USUAL_SHARE_S = scaled(0.1)
_NOTICES_S = {"Chromium": 2.0, "libwebrtc": 2.0}  # WebRTC's BasicNetworkManager looks for addresses that often
_VAIN_S = scaled(5.0)  # for what cannot be
_MEASURED = ROOT / "benchmarks" / "networks.json"
_PACKETS = 20
_POLL_S = 0.02
_SYSTEM_PYTHON = "/usr/bin/python3"  # it alone has the system's bindings of GStreamer
_TONE = (6000 * np.sin(2 * np.pi * 440 * np.arange(24_000 * 60) / 24_000)).astype("<i2").tobytes()


@dataclass(frozen=True, slots=True)
class _Network:
    """What a network is like, and by which way a caller gets through it."""

    surroundings: Callable[[Lab], AbstractAsyncContextManager[None]] = lambda lab: nullcontext()
    relay: dict[str, str] | None = None
    """The one of the relay's addresses that the caller may use; it uses no other way then."""
    is_ipv6: bool = False
    protocol: str = "udp"
    change: Callable[[Lab], Awaitable[None]] | None = None
    """What happens to the network in mid-call."""
    restarts: bool = False
    """The page notices, and restarts ICE."""
    is_another_peer: bool = False
    """It does not restart ICE, but makes another peer that takes the place of the first."""

    def seen_at(self, lab: Lab) -> tuple[str, ...]:
        """From where media has to come, and over what."""
        address = lab.bridge if self.relay else lab.caller6 if self.is_ipv6 else lab.outside
        return address, self.protocol


_PEERS = ("Chromium", "Firefox", "libwebrtc", "GStreamer")
_NETWORKS = {
    "UDP": _Network(),
    "no UDP: ICE-TCP": _Network(Lab.without_udp, protocol="tcp"),
    "relay over UDP": _Network(relay={"scheme": "turn", "transport": "udp"}),
    "no UDP: relay over TCP": _Network(Lab.without_udp, relay={"scheme": "turn", "transport": "tcp"}),
    "no UDP: relay over TLS": _Network(Lab.only_tls, relay={"scheme": "turns", "transport": "tcp"}),
    "IPv6 only": _Network(Lab.only_ipv6, is_ipv6=True),
    "its address changes": _Network(change=Lab.move, restarts=True),
    "its NAT forgets it": _Network(change=Lab.rebind),
}
_TUNNELLED = _Network(Lab.tunnelled, relay={"scheme": "turn", "transport": "tcp", "at": f"127.0.0.1:{TUNNEL_PORT}"})
_INSTEAD: dict[tuple[str, str], tuple[_Network, str]] = {
    ("libwebrtc", "no UDP: relay over TLS"): (
        _TUNNELLED,
        "@roamhq/wrtc trusts no authority but those it was built with, so the relay needs a certificate of a public "
        "one; here socat on the caller's machine brought the relay's TCP there over TLS",
    ),
    ("GStreamer", "no UDP: relay over TLS"): (
        _TUNNELLED,
        "libnice 0.1.21 speaks no TLS to relays; socat on the caller's machine brought the relay's TCP there over TLS",
    ),
    ("GStreamer", "its address changes"): (
        _Network(change=Lab.move, restarts=True, is_another_peer=True),
        "webrtcbin 1.22 restarts no ICE; another webrtcbin took the place of the first, with its `Bridge-Resume-Key`",
    ),
}
"""What a peer does instead of what it cannot do, and what the guide says of it."""


class _Caller:
    """A program that makes calls from the caller's network, when it is told to."""

    def __init__(self, log: Scenario) -> None:
        self._log = log
        self._numbers = itertools.count(1)

    async def does(self, do: str, **more: Any) -> dict[str, Any]:
        """What came of one command; fails where it failed."""
        number = next(self._numbers)
        self._log.tell(do=do, number=number, **more)
        kind = f"done.{do}"
        await self._log.wait(lambda: any(done["number"] == number for done in self._log.of(kind)), kind)
        [done] = [done for done in self._log.of(kind) if done["number"] == number]
        assert "failed" not in done, done["failed"]
        return done

    def end(self) -> None:
        """No more commands come."""
        self._log.end_input()


class _Callers:
    """One of each kind, started when it is first asked for: a browser takes seconds to start."""

    def __init__(self, lab: Lab, stack: AsyncExitStack) -> None:
        self._lab, self._stack = lab, stack
        self._there: dict[str, _Caller] = {}

    async def get(self, name: str) -> _Caller:
        if name not in self._there:
            log = await self._stack.enter_async_context(await self._program(name))
            await log.until("peer.ready")
            self._there[name] = _Caller(log)
        return self._there[name]

    def end(self) -> None:
        """All of them go."""
        for caller in self._there.values():
            caller.end()

    def _folder(self, name: str) -> Path:
        folder = self._lab.folder / name
        for part in ("profile", ".pki/nssdb"):
            (folder / part).mkdir(parents=True)
        return folder

    async def _program(self, name: str) -> AbstractAsyncContextManager[Scenario]:
        lab = self._lab
        home = self._folder(name)
        before = (*lab.where(), "env", f"HOME={home}")
        if name == "GStreamer":
            return scenario("networks_gst.py", "", folder=FOLDER, command=(*before, _SYSTEM_PYTHON))
        inputs: dict[str, Any] = {}
        if name == "Chromium":
            inputs["executable"] = next(filter(None, map(shutil.which, CHROMIUM_NAMES)), None)
            origins = ",".join(url.rstrip("/") for url in (lab.url, lab.url6))
            inputs["flags"] = [
                *("--no-sandbox", "--no-first-run", "--disable-background-networking", "--disable-component-update"),
                *("--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream"),
                f"--unsafely-treat-insecure-origin-as-secure={origins}",
            ]
            await _trust(lab.authority, home / ".pki" / "nssdb")
        elif name == "Firefox":
            inputs["executable"] = shutil.which("firefox-esr")
            await _trust(lab.authority, home / "profile")
        assert inputs.get("executable", True), f"needs {name}: make chromium foreign"
        inputs["profile"] = str(home / "profile")
        return scenario("networks.mjs", name.lower(), folder=FOLDER, command=(*before, "node"), **inputs)


async def _trust(certificate: Path, folder: Path) -> None:
    """A browser whose database this is takes the certificate for one of an authority's."""
    found = shutil.which("certutil")
    assert found, "needs libnss3-tools: make foreign"
    database = ("-d", f"sql:{folder}")
    for words in (("-N", "--empty-password"), ("-A", "-n", "lab", "-t", "C,,", "-i", str(certificate))):
        code, _, complaint = await ran(found, *words, *database)
        assert code == 0, complaint


@pytest.fixture(scope="module")
async def lab(tmp_path_factory: pytest.TempPathFactory, node_packages: None) -> AsyncIterator[Lab]:
    """The caller's network, the router, the relay and the bridge."""
    async with Lab.opened(tmp_path_factory.mktemp("lab")) as opened:
        yield opened


@pytest.fixture(scope="module")
async def callers(lab: Lab) -> AsyncIterator[_Callers]:
    """The programs that call."""
    async with AsyncExitStack() as stack:
        callers = _Callers(lab, stack)
        yield callers
        callers.end()


@pytest.fixture(scope="module")
def measured() -> Iterator[dict[str, dict[str, dict[str, int | str]]]]:
    """What each cell has told; NETWORKS_JSON names the file to write it to, for the guide. Other cells stay there."""
    told: dict[str, dict[str, dict[str, int | str]]] = {}
    yield told
    if path := os.environ.get("NETWORKS_JSON"):
        kept = json.loads(_MEASURED.read_text())
        rows = {peer: {net: told.get(peer, {}).get(net) or kept[peer][net] for net in _NETWORKS} for peer in _PEERS}
        Path(path).write_text(json.dumps(rows, indent=1) + "\n")


@pytest.mark.timeout(180, func_only=True)  # a browser may have to start first, beside two others' tests
@pytest.mark.parametrize(("peer", "network"), list(itertools.product(_PEERS, _NETWORKS)))
async def test_a_call(
    lab: Lab, callers: _Callers, measured: dict[str, dict[str, dict[str, int | str]]], peer: str, network: str
) -> None:
    """It connects by the way that there is and no other, and sound goes both ways; after a change it comes back."""
    wanted, instead = _INSTEAD.get((peer, network), (_NETWORKS[network], ""))
    caller = await callers.get(peer)
    url = lab.url6 if wanted.is_ipv6 else lab.url
    async with wanted.surroundings(lab), speaking_agent(lab.url, _TONE):
        done = await caller.does("connect", url=url, key=API_KEY, relay=wanted.relay)
        async with _hanging_up(lab, caller, done["call_id"]) as call_id:
            assert done["first"] == "session.created"
            await _until(lambda: _holds(lab.seen_at(call_id)[::2] == wanted.seen_at(lab)))
            await _sound_goes_both_ways(lab, caller, call_id)
            figures: dict[str, int | str] = {"ms": done["ms"], **({"instead": instead} if instead else {})}
            if wanted.change is not None:
                limit_s = _BACK_WITHIN_S + (_NOTICES_S.get(peer, 0.0) if wanted.restarts else 0.0)
                limit_s = _ANOTHER_WITHIN_S if wanted.is_another_peer else limit_s
                share_limit_s = _SHARE_WITHIN_S.get(peer, _USUAL_SHARE_S)
                figures |= await _change(lab, caller, call_id, wanted, limit_s, share_limit_s, url)
                await _sound_goes_both_ways(lab, caller, call_id)
    measured.setdefault(peer, {})[network] = figures


@asynccontextmanager
async def _hanging_up(lab: Lab, caller: _Caller, call_id: str) -> AsyncIterator[str]:
    """At the end the call is over, so that the next one gets its agent."""
    session = lab.daemon.registry.find(call_id)
    try:
        yield call_id
    finally:
        headers = {"Authorization": f"Bearer {API_KEY}"}
        await request("POST", f"{lab.url}v1/realtime/calls/{call_id}/hangup", headers=headers)
        await session.lifetime.closed.wait()
    await caller.does("hang_up")


async def _holds(what: bool) -> bool:
    return what


async def _until(has_come: Callable[[], Awaitable[bool]]) -> None:
    """Asks until it has: what goes on in a caller's program tells nobody."""
    async with asyncio.timeout(_LIMIT_S):
        while not await has_come():  # noqa: ASYNC110 (there is no event for it)
            await asyncio.sleep(_POLL_S)


async def _sound_goes_both_ways(lab: Lab, caller: _Caller, call_id: str, *, packets: int = _PACKETS) -> None:
    """The bridge gets packets of the caller's, and the caller packets of the answer."""
    inbound = lab.peer(call_id).rtp.inbound.stats
    heard, hears = inbound.packets, (await caller.does("heard"))["packets"]

    async def has_come() -> bool:
        enough = inbound.packets >= heard + packets
        return enough and (await caller.does("heard"))["packets"] >= hears + packets

    await _until(has_come)


class _Share:
    """How long the bridge takes from the first packet that comes from a new address to its first one to there."""

    def __init__(self, peer: Peer, left: tuple[str, str]) -> None:
        """``left`` is the host and the port from which the peer came until now."""
        self.first_at = self.sent_at = 0.0
        self._left = left
        self._now = asyncio.get_running_loop().time
        ice: Any = peer.ice
        self._ice = ice
        for name in ("checked", "hear_from", "receive_from_elsewhere"):
            setattr(ice, name, self._noting(getattr(ice, name)))
        send = ice.send_datagram

        def sends(datagram: bytes) -> None:
            send(datagram)
            if not self.sent_at and self.first_at and not self._is_left(ice.address):
                self.sent_at = self._now()

        ice.send_datagram = sends

    def _noting(self, method: Callable[..., Any]) -> Callable[..., Any]:
        def noted(*args: Any, **more: Any) -> Any:
            address = next(each for each in args if isinstance(each, tuple))
            if not self.first_at and not self._is_left(address):
                self.first_at = self._now()
            return method(*args, **more)

        return noted

    def _is_left(self, address: Any) -> bool:
        return address is None or (str(address[0]).removeprefix("::ffff:"), str(address[1])) == self._left

    @property
    def seconds(self) -> float:
        """The time, once both were there."""
        assert self.first_at
        assert self.sent_at
        return self.sent_at - self.first_at


async def _change(
    lab: Lab, caller: _Caller, call_id: str, wanted: _Network, limit_s: float, share_limit_s: float, url: str
) -> dict[str, int | str]:
    """How long after the change of the network sound goes both ways again, in milliseconds.

    Of that the bridge's own share, unless another peer begins anew.
    """
    assert wanted.change is not None
    peer, before = lab.peer(call_id), lab.seen_at(call_id)
    share, now = _Share(peer, before[:2]), asyncio.get_running_loop().time
    await wanted.change(lab)
    began = now()
    if wanted.restarts:
        await caller.does("restart", url=url, key=API_KEY, call_id=call_id)
    await _until(lambda: _holds(lab.seen_at(call_id) != before))
    await _sound_goes_both_ways(lab, caller, call_id, packets=1)
    took_s = now() - began
    assert took_s < limit_s
    if wanted.is_another_peer:
        assert lab.peer(call_id) is not peer
        return {"back_ms": round(1000 * took_s)}
    assert lab.peer(call_id) is peer
    assert share.seconds < share_limit_s
    return {"back_ms": round(1000 * took_s), "share_ms": round(1000 * share.seconds)}


@pytest.mark.timeout(180, func_only=True)
@pytest.mark.parametrize(("peer", "speaks_tls"), [("libwebrtc", True), ("GStreamer", False)])
async def test_what_a_relay_over_tls_is_to_it(lab: Lab, callers: _Callers, peer: str, speaks_tls: bool) -> None:
    """It gets no relay there: it trusts no such certificate, or does not so much as begin a handshake.

    If this fails, it has learned to: then it needs nothing instead.
    """
    caller, before = await callers.get(peer), await lab.tls_records()
    async with lab.only_tls():
        with pytest.raises(AssertionError):
            await caller.does(
                "connect", url=lab.url, key=API_KEY, relay=_NETWORKS["no UDP: relay over TLS"].relay, limit_s=_VAIN_S
            )
    assert (await lab.tls_records() > before) is speaks_tls


@pytest.mark.timeout(180, func_only=True)
async def test_what_an_ice_restart_is_to_webrtcbin(lab: Lab, callers: _Callers) -> None:
    """It offers the credentials that it has, whatever it is asked for.

    If this fails, it has learned to restart ICE: then it needs no other peer.
    """
    caller = await callers.get("GStreamer")
    async with speaking_agent(lab.url, _TONE):
        done = await caller.does("connect", url=lab.url, key=API_KEY)
        async with _hanging_up(lab, caller, done["call_id"]):
            ufrags = await caller.does("ufrags")
    assert ufrags["after"] == ufrags["before"]


def test_the_documents_have_each_cell() -> None:
    """What the guide's table is made of says of each cell how long it took, or why there is nothing to say."""
    kept = json.loads(_MEASURED.read_text())
    assert {peer: set(rows) for peer, rows in kept.items()} == {peer: set(_NETWORKS) for peer in _PEERS}
    for peer, network in itertools.product(_PEERS, _NETWORKS):
        cell = kept[peer][network]
        assert cell.get("instead") == (_INSTEAD[peer, network][1] if (peer, network) in _INSTEAD else None)
        assert cell["ms"] > 0
