"""What a running bridge shows to whoever asks it, and a call to it of a peer of our own."""

import asyncio
import re
import time
from email.utils import parsedate_to_datetime
from ipaddress import ip_address
from urllib.parse import urlsplit

import msgspec
from msgspec import Struct

from bridge.client.address import CallFailed
from bridge.client.lines import ClientWebRtcLine
from bridge.client.operators.api import BridgeApi
from bridge.doctor.findings import Examined, Finding, Findings, fault, fine, warning
from bridge.webrtc.runner import PeerRunner

__all__ = ["answers", "clock", "key", "media", "open_files", "ready"]

_CONNECT_S = 8.0
_CLOSE_S = 2.0
_SKEW_S, _FAR_SKEW_S = 5.0, 60.0
_MANY = 0.7
_CANDIDATE = re.compile(r"a=candidate:\S+ 1 (udp|tcp) \d+ (\S+) (\d+) typ", re.IGNORECASE)
_OPEN = re.compile(r"^process_open_fds (\S+)$", re.MULTILINE)
_MOST = re.compile(r"^process_max_fds (\S+)$", re.MULTILINE)


async def answers(examined: Examined) -> Findings:
    """It answers at its URL."""
    api = examined.api
    if api is None:
        if examined.config is not None:
            yield fine("no bridge runs at the address in the settings: only the settings and this machine are examined")
        return
    began = time.monotonic()
    try:
        await asyncio.to_thread(api.get, "/healthz")
    except CallFailed as failure:
        yield fault(failure.message.rstrip("."), "start it, or give the right URL with bridge doctor URL")
        return
    examined.has_answered = True
    yield fine(f"{api.address.origin} answers in {1000 * (time.monotonic() - began):.0f} ms")


class _ReadyCheck(Struct):
    name: str
    is_ok: bool
    reason: str | None = None


class _Ready(Struct):
    is_ready: bool
    checks: list[_ReadyCheck] = []


async def ready(examined: Examined) -> Findings:
    """It would serve a new call."""
    api = examined.api
    if api is None or not examined.has_answered:
        return
    try:
        reply = await asyncio.to_thread(api.get, "/readyz", takes_refusals=True)
        told = msgspec.json.decode(reply.body, type=_Ready)
    except (CallFailed, msgspec.DecodeError) as error:
        yield warning(
            f"the answer of /readyz cannot be read: {error}", "is this a bridge, and not a proxy that answers for it?"
        )
        return
    if told.is_ready:
        yield fine(f"it would serve a new call (checked: {', '.join(check.name for check in told.checks)})")
    for check in told.checks:
        if not check.is_ok:
            yield fault(
                f"it would not serve a new call ({check.name}): {check.reason}", "new calls get 503 until this is fixed"
            )


async def key(examined: Examined) -> Findings:
    """It lets in the key that there is."""
    api = examined.api
    if api is None or not examined.has_answered:
        return
    try:
        await asyncio.to_thread(api.list_calls)
    except CallFailed as failure:
        yield fault(
            f"the API refused the request: {failure.message.rstrip('.')}", "give a key with --api-key or BRIDGE_API_KEY"
        )
        return
    yield fine("the API accepts the key" if examined.api_key else "the API accepts this machine without a key")


async def clock(examined: Examined) -> Findings:
    """Its clock is that of this machine: signatures and keys that carry a time fail otherwise."""
    api = examined.api
    if api is None or not examined.has_answered:
        return
    before = time.time()
    try:
        reply = await asyncio.to_thread(api.get, "/healthz")
        there = parsedate_to_datetime(reply.headers["Date"]).timestamp() + 0.5  # it has whole seconds
    except (CallFailed, TypeError, ValueError):
        yield warning("the server does not report its time (Date)", "a proxy in between may remove the header")
        return
    ahead_s = there - (before + time.time()) / 2
    said = f"its clock is {abs(ahead_s):.0f} s {'ahead of' if ahead_s > 0 else 'behind'} this machine's"
    advice = (
        "synchronize both with a time server (timedatectl): signed webhooks and carriers' tokens tolerate at "
        "most 5 minutes"
    )
    if abs(ahead_s) >= _FAR_SKEW_S:
        yield fault(said, advice)
    elif abs(ahead_s) >= _SKEW_S:
        yield warning(said, advice)
    else:
        yield fine("its clock and this machine's agree to within a few seconds")


async def media(examined: Examined) -> Findings:
    """Its UDP port is reached from here: a call is made, with ICE, DTLS and a data channel, and hung up at once."""
    api = examined.api
    if api is None or not examined.has_answered:
        return
    told: list[str] = []

    began = time.monotonic()
    runner = PeerRunner(connect_timeout_s=_CONNECT_S, close_deadline_s=_CLOSE_S)
    try:
        async with runner:
            line = ClientWebRtcLine(
                _SilentCaller(), runner, see_answer=lambda answer: told.extend(dict.fromkeys(_candidates(answer)))
            )
            async with line.open(api.address, examined.api_key, sound_s=0):
                took_ms = 1000 * (time.monotonic() - began)
                round_trip_ms = line.describe().get("round_trip_ms")
    except CallFailed as failure:
        if told:
            yield fault(
                f"no media got through to {', '.join(told)}, where the bridge told this peer to send it",
                "open that port in every firewall in between; if the address is wrong, set advertise to the one at "
                f"which {urlsplit(api.address.origin).hostname} is reached from here",
            )
        else:
            yield fault(
                f"no call could be made: {failure.message.rstrip('.')}", "see the line above, and the bridge's log"
            )
        return
    trip = "" if round_trip_ms is None else f", round trip {round_trip_ms:.0f} ms"
    yield fine(f"media got through in {took_ms:.0f} ms (ICE, DTLS, data channel){trip}")
    for finding in _judged(told, api):
        yield finding


def _judged(told: list[str], api: BridgeApi) -> list[Finding]:
    """Of the addresses that peers are told: others may not reach what this machine does."""
    hosts = [ip_address(place.rpartition(":")[0].strip("[]")) for place in told]
    name = urlsplit(api.address.origin).hostname or ""
    is_local = name == "localhost" or name.startswith("127.") or name == "::1"
    if is_local or any(not host.is_private for host in hosts):
        return [fine(f"peers are told to send to {', '.join(told)}")]
    return [
        warning(
            f"peers are told to send to {', '.join(told)}, which are private addresses",
            "callers from elsewhere cannot send there: set advertise to the address at which the bridge is reached",
        )
    ]


def _candidates(answer: bytes) -> list[str]:
    """Address and port of each UDP candidate."""
    found = _CANDIDATE.findall(answer.decode(errors="replace"))
    return [
        f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for kind, host, port in found if kind.lower() == "udp"
    ]


class _SilentCaller:
    """Who calls, and has nothing to say; a ``ClientLineOwner``."""

    def receive_event(self, event: dict[str, object]) -> None:
        """Whatever."""

    def receive_audio(self, pcm: bytes) -> None:
        """Whatever."""

    def speaking(self, spoken_ms: int) -> None:
        """Whatever."""

    def spoken(self) -> None:
        """Whatever."""

    def wants_silence(self) -> bool:
        """It wants to hear nothing."""
        return False

    def line_lost(self, message: str, code: str) -> None:
        """Whatever."""


async def open_files(examined: Examined) -> Findings:
    """It is far from the number of files that it may have open."""
    api = examined.api
    if api is None or not examined.has_answered:
        return
    try:
        page = (await asyncio.to_thread(api.get, "/metrics")).body.decode()
    except CallFailed:
        return  # they are at a port of their own
    found = [pattern.search(page) for pattern in (_OPEN, _MOST)]
    if not all(found):
        return
    used, most = (float(one[1]) for one in found if one is not None)
    said = f"it has {used:.0f} of {most:.0f} files open"
    if used > _MANY * most:
        yield warning(said, "raise the limit with LimitNOFILE in the unit, or ulimit -n")
    else:
        yield fine(said)
