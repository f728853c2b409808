"""What the settings and this machine tell before anything is started."""

import asyncio
import os
import resource
import shutil
import socket
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509

from bridge.client.address import CallFailed
from bridge.client.operators.api import BridgeApi
from bridge.config import Config, is_loopback
from bridge.config.workers import settings_of_worker
from bridge.daemon import check
from bridge.doctor.findings import Examined, Finding, Findings, fault, fine, warning
from bridge.webrtc.endpoint import local_addresses, media_host

__all__ = ["addresses", "certificate", "disk", "files", "ports", "settings"]

_FILES_PER_CALL = 4  # the caller's socket, the upstream's, a listener's, and one that just opens or closes
_FILES_BESIDE = 200  # libraries, models, recordings, requests
_SOON_S = 14 * 86_400
_PROBE_TIMEOUT_S = 2.0
_LOW_DISK_BYTES = 1024 * 1024 * 1024


async def settings(examined: Examined) -> Findings:
    """They can be read, fit together, and a start would take them."""
    if not examined.is_here:
        return
    for name in examined.ignored:
        yield warning(
            f"{name} looks like a setting, but Kubernetes sets it for a service called bridge; it is ignored",
            "give the service another name, or set enableServiceLinks: false in the pod",
        )
    config = examined.reading.config
    faults = list(examined.reading.faults) if config is None else check(config)
    for one in faults:
        yield fault(one.message, "bridge config check FILE reports everything that is wrong with a file")
    if not faults:
        count = len(examined.reading.origins)
        yield fine(f"{count} setting{'' if count == 1 else 's'} changed from the defaults, and they fit together")


async def ports(examined: Examined) -> Findings:
    """They are free, or the bridge that is meant has them."""
    config = examined.config
    if config is None:
        return
    for setting, kind, host, port in _ports(config):
        if port == 0:
            yield fine(f"{setting} is 0: a free port is chosen at the start")
            continue
        reason = _taken(kind, host, port)
        if reason is None:
            yield fine(f"{kind} {host}:{port} ({setting}) is free")
        elif examined.api is not None and examined.has_answered:
            yield fine(f"{kind} {host}:{port} ({setting}) is in use, and a bridge runs here")
        elif setting == "port" and (found := await _bridge_at(config, examined)) is not None:
            examined.api = found
            yield fine(f"{kind} {host}:{port} ({setting}) is in use by a running bridge, which is examined too")
        elif examined.api is not None:
            yield fine(f"{kind} {host}:{port} ({setting}) is in use, as expected if a bridge runs here")
        else:
            yield fault(
                f"{kind} {host}:{port} ({setting}) is not available: {reason}",
                f"end the program that uses it (ss -lptun 'sport = :{port}'), or choose another {setting}",
            )


def _ports(config: Config) -> Iterator[tuple[str, str, str, int]]:
    """Setting, protocol, address and number of each."""
    server, media = config.server, config.media
    yield "port", "TCP", server.host, server.port
    of_media = media_host(server.host, media.advertise)
    for number in range(max(1, config.cluster.workers)):
        own = settings_of_worker(config, number).media if config.cluster.workers else media
        yield "udp_port", "UDP", of_media, server.port if own.udp_port is None else own.udp_port
        if own.ice_tcp_port is not None:
            yield "ice_tcp_port", "TCP", of_media, own.ice_tcp_port
    if config.observe.metrics_port is not None:
        yield "metrics_port", "TCP", config.observe.metrics_host, config.observe.metrics_port
    for section in config.carriers:
        for name in type(section).__struct_fields__:
            number = getattr(section, name)
            if name.endswith("_port") and isinstance(number, int):
                yield name, "TCP", server.host, number


def _taken(kind: str, host: str, port: int) -> str | None:
    """Why the port cannot be had; None: it can."""
    address = "127.0.0.1" if host == "localhost" else host
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with closing(socket.socket(family, socket.SOCK_STREAM if kind == "TCP" else socket.SOCK_DGRAM)) as tried:
        if kind == "TCP":
            tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            tried.bind((address, port))
            if kind == "TCP":
                tried.listen(1)
        except OSError as error:
            return error.strerror or str(error)
    return None


async def _bridge_at(config: Config, examined: Examined) -> BridgeApi | None:
    """The bridge that has the port already, if it is one."""
    server = config.server
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(server.host, server.host)
    host = f"[{host}]" if ":" in host and not host.startswith("[") else host
    api = BridgeApi(
        f"{'https' if server.tls_cert else 'http'}://{host}:{server.port}", examined.api_key, timeout_s=_PROBE_TIMEOUT_S
    )
    try:
        await asyncio.to_thread(api.get, "/healthz")
    except CallFailed:
        return None
    return api


async def addresses(examined: Examined) -> Findings:
    """Peers are told an address that they can send to."""
    config = examined.config
    if config is None:
        return
    host, advertise = config.server.host, config.media.advertise
    own = local_addresses(media_host(host, advertise))
    if advertise:
        elsewhere = [address for address in advertise if address not in own]
        yield fine(f"peers are told to send media to {', '.join(advertise)}")
        if elsewhere:
            yield warning(
                f"{', '.join(elsewhere)} is not an address of this machine",
                "correct behind a NAT that forwards this UDP port to this machine; otherwise correct advertise. To "
                "test it, run bridge doctor URL from where callers are",
            )
        return
    if is_loopback(host):
        yield fine(f"only this machine is served; media is at {', '.join(own)}")
        return
    outside = [address for address in own if not ip_address(address.partition("%")[0]).is_private]
    if outside:
        yield fine(f"peers are told to send media to {', '.join(own)}")
    else:
        yield warning(
            f"peers are told to send media to {', '.join(own)}, which are private addresses",
            "if callers come from elsewhere, set advertise to the address at which this machine is reached",
        )


async def certificate(examined: Examined) -> Findings:
    """It is valid, and for some time still."""
    config = examined.config
    if config is None or config.server.tls_cert is None:
        return
    yield await asyncio.to_thread(_certificate, config.server.tls_cert)


def _certificate(path: str) -> Finding:
    try:
        (first, *_) = x509.load_pem_x509_certificates(Path(path).read_bytes())
    except (OSError, ValueError) as error:
        return fault(f"{path} cannot be read: {error}", "give a certificate chain in PEM format")
    left_s = (first.not_valid_after_utc - datetime.now(UTC)).total_seconds()
    said = f"the certificate {'was' if left_s <= 0 else 'is'} valid until {first.not_valid_after_utc:%Y-%m-%d}"
    if left_s >= _SOON_S:
        return fine(said)
    return (fault if left_s <= 0 else warning)(said, "renew it, and reload the settings (SIGHUP)")


async def files(examined: Examined) -> Findings:
    """As many files and sockets may be open as the calls need."""
    config = examined.config
    if config is None:
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = _FILES_PER_CALL * config.calls.max_calls + _FILES_BESIDE
    said = f"this process may open {soft} files, but max_calls={config.calls.max_calls} needs about {needed}"
    if soft != resource.RLIM_INFINITY and soft < needed:
        limit = "" if hard == resource.RLIM_INFINITY or hard >= needed else f" (its own limit is {hard} now)"
        yield warning(said, f"raise it{limit}: LimitNOFILE={needed} in the unit, or ulimit -n {needed}")
    else:
        yield fine(said)


async def disk(examined: Examined) -> Findings:
    """Recordings can be written."""
    config = examined.config
    folder = None if config is None else config.recording.record_dir
    if config is None or folder is None:
        return
    yield await asyncio.to_thread(_disk, Path(folder), max(_LOW_DISK_BYTES, config.observe.ready_free_bytes))


def _disk(folder: Path, needed_bytes: int) -> Finding:
    if not folder.is_dir():
        return fault(
            f"record_dir: there is no directory {folder}",
            "create it: the bridge does not create it and will not start without it",
        )
    if not os.access(folder, os.W_OK | os.X_OK):
        return fault(f"record_dir: {folder} is not writable", "make it writable for the user that runs bridge")
    free_bytes = shutil.disk_usage(folder).free
    said = f"record_dir: {free_bytes / 1e9:.1f} GB are free in {folder}"
    if free_bytes < needed_bytes:
        return warning(said, "free some space: a full disk ends recordings, and /readyz then answers 503")
    return fine(said)
