"""Whether services and carriers take the keys that the settings hold, asked with the cheapest request that there is."""

import time
from urllib.parse import urlsplit, urlunsplit

from bridge.doctor.findings import Examined, Finding, Findings, fault, fine, warning
from bridge.errors import CannotCheck, ConfigError
from bridge.outgoing import HTTPError, new_client
from bridge.telephony.hang_up import HttpHangUp
from bridge.telephony.table import CARRIERS
from bridge.upstream.plan import UpstreamPlan
from bridge.upstream.target import Target, Transport

__all__ = ["carriers", "redis", "upstreams"]

_TIMEOUT_S = 8.0
_SCHEMES = {"ws": "http", "wss": "https"}
_ENDPOINTS = ("/realtime/calls", "/realtime")
_REFUSED = (401, 403)
_TAKEN = (200, 400, 404, 409, 410, 422)  # of a request to end a call that nobody has


async def upstreams(examined: Examined) -> Findings:
    """Each answers, and takes its key: asked for its list of models, which costs nothing."""
    config = examined.config
    if config is None:
        return
    try:
        plan = UpstreamPlan.of(config.upstream)
    except ConfigError:
        return  # told by the settings
    targets = [*plan.default, *(target for targets in plan.by_model.values() for target in targets)]
    for target in {target.name: target for target in targets}.values():
        yield await _upstream(target)


async def _upstream(target: Target) -> Finding:
    if target.transport is Transport.LOCAL:
        return fine("upstream: the embedded engine answers")
    if target.transport is Transport.CASCADE:
        return fine(f"upstream {target.name}: a cascade answers; its stages are examined separately")
    if target.transport is Transport.AGENT:
        return fine("upstream: agents answer; they attach when a call comes")
    parts = urlsplit(target.shown_url)
    root = next((parts.path.removesuffix(end) for end in _ENDPOINTS if parts.path.endswith(end)), parts.path)
    scheme = _SCHEMES.get(parts.scheme, parts.scheme)
    url = urlunsplit((scheme, parts.netloc, f"{root.rstrip('/')}/models", "", ""))
    shown = f"upstream {target.name} ({target.shown_url})"
    try:
        async with new_client(_TIMEOUT_S, target.headers) as client, client.stream("GET", url) as response:
            status = response.status_code
    except HTTPError as error:
        why = str(error) or type(error).__name__
        return fault(f"{shown} cannot be reached: {why}", "is the URL right, and does a firewall let this machine out?")
    if status in _REFUSED:
        lacks = "refuses the key" if target.key else "wants a key"
        return fault(f"{shown} {lacks} (HTTP {status})", "replace upstream_key, or the key of this upstream")
    if status == 200:
        return fine(f"{shown} accepts the key" if target.key else f"{shown} answers and requires no key")
    if status < 500:
        return fine(f"{shown} answers, but lists no models (HTTP {status}), so the key can only be checked by a call")
    return fault(f"{shown} answers with HTTP {status}", "look at the service's status page")


async def redis(examined: Examined) -> Findings:
    """It answers, takes its password, and lets a script run, as a cluster of processes needs it."""
    config = examined.config
    if config is None or config.cluster.redis_url is None:
        return
    try:
        from bridge.cluster.store import Script, SharedStore
    except ImportError:
        yield fault("redis_url is set, but redis-py is not installed", "pip install 'bridge-realtime[cluster]'")
        return
    began = time.monotonic()
    try:
        store = SharedStore(
            config.cluster.redis_url, config.cluster.cluster_name, timeout_s=config.cluster.redis_timeout_s
        )
        async with store:
            await store.ask(Script("return 1"), store.name("doctor"))
            took_ms = 1000 * (time.monotonic() - began)
    except (CannotCheck, ConfigError) as error:
        why = store.complaint if isinstance(error, CannotCheck) else error.message
        yield fault(
            f"Redis does not carry out commands: {why}",
            "until it does, minted keys are refused and limits are not shared: is redis_url right, and is Redis "
            "running?",
        )
        return
    yield fine(f"Redis answers and runs scripts, in {took_ms:.0f} ms")


async def carriers(examined: Examined) -> Findings:
    """Each that the settings let in, and that is hung up by its API, takes the key: asked to end a call of nobody's."""
    config = examined.config
    if config is None:
        return
    for carrier in CARRIERS:
        section = next((one for one in config.carriers if isinstance(one, carrier.settings)), None)
        if section is None or not carrier.is_open(section):
            continue
        hang_up = carrier.new_hang_up(section)
        if not isinstance(hang_up, HttpHangUp):
            yield fine(
                f"carrier {carrier.name} may connect; the bridge sends it no requests, so there is nothing to try"
            )
            continue
        answer = await hang_up.try_key()
        if answer in _TAKEN:
            yield fine(f"carrier {carrier.name} accepts the key of its API")
        elif answer in _REFUSED:
            yield fault(
                f"carrier {carrier.name} refuses the key of its API (HTTP {answer}): calls cannot be hung up",
                f"correct the settings of {carrier.name}: the bridge cannot end its calls, which cost money",
            )
        else:
            said = f"HTTP {answer}" if isinstance(answer, int) else answer
            yield warning(
                f"carrier {carrier.name}: its API answers with {said}",
                "try again; if that does not help, look at its status page",
            )
