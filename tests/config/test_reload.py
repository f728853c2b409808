"""Settings that are read again while the daemon runs: what changes, when, and what a mistake does."""

import asyncio
import base64
import hashlib
import hmac
from collections.abc import Callable, Iterator
from typing import Any, cast

import pytest
import structlog
from msgspec.structs import replace

from bridge.api.ice_servers import IceServer
from bridge.config import Applies, Config, TelephonySettings, of_flat
from bridge.config.fields import Setting, settings_of
from bridge.config.reload import Changes, changed
from bridge.config.rooms import ROOMS, NamedUpstream
from bridge.daemon import Daemon
from bridge.errors import ConfigError
from bridge.log import get_logger, set_level
from bridge.reload import Reloader
from bridge.telephony.carrier import Carrier
from bridge.telephony.table import CARRIERS
from tests.end_to_end.web import request
from tests.settings import SECTIONS, config_for_tests

_SETTINGS = settings_of((*ROOMS, *SECTIONS))


@pytest.fixture(autouse=True)
def _level_stays() -> Iterator[None]:
    """The log of other tests is not this one's to change."""
    before = structlog.get_config()["wrapper_class"]
    yield
    structlog.configure(wrapper_class=before)


class _Source:
    """What the sources of a daemon's settings say, and may say later."""

    def __init__(self, **settings: Any) -> None:
        self.config = config_for_tests(**settings)

    def says(self, **settings: Any) -> None:
        """From now on."""
        self.config = config_for_tests(**settings)

    def read(self) -> Config:
        """As a file is read; what no single value can say is checked as well."""
        for name, reason in self.config.faults():
            raise ConfigError(f"{name}: {reason} (from a test)", param=name)
        return self.config


def _daemon(source: _Source) -> Daemon:
    return Daemon(source.config, read_settings=source.read)


# What differs


def test_what_needs_a_restart_is_kept_as_it_is() -> None:
    """The new settings have the old values of what cannot change, and all that differs is named."""
    old = of_flat({"port": 1, "max_calls": 1, "call_limit_s": 1.0, "log_level": "info"}, SECTIONS)
    read = of_flat({"port": 2, "max_calls": 2, "call_limit_s": 2.0, "telnyx_secret": ("s",)}, SECTIONS)
    new, changes = changed(old, read)
    assert changes == Changes(live=("max_calls", "telnyx_secret"), new_calls=("call_limit_s",), restart=("port",))
    assert new == of_flat({"port": 1, "max_calls": 2, "call_limit_s": 2.0, "telnyx_secret": ("s",)}, SECTIONS)


def test_a_cascade_needs_a_restart() -> None:
    """Its servers are opened at the start; other upstreams come and go."""
    cascade = NamedUpstream(kind="cascade", llm_url="http://a/v1")
    kept, changes = changed(config_for_tests(), config_for_tests(upstreams={"a": cascade}))
    assert (kept.upstream.upstreams, changes.restart) == ({}, ("upstreams",))


def test_nothing_differs() -> None:
    """The same settings are no change."""
    config = of_flat({"port": 1}, SECTIONS)
    new, changes = changed(config, of_flat({"port": 1}, SECTIONS))
    assert new == config
    assert changes == Changes()


def test_https_cannot_be_turned_on() -> None:
    """A certificate can be replaced by another one, but the port speaks what it spoke at the start."""
    plain = of_flat({}, SECTIONS)
    one = of_flat({"tls_cert": "a", "tls_key": "b"}, SECTIONS)
    other = of_flat({"tls_cert": "c", "tls_key": "d"}, SECTIONS)
    assert changed(plain, one)[1].restart == ("tls_cert", "tls_key")
    assert changed(one, plain)[1].restart == ("tls_cert", "tls_key")
    assert changed(one, other)[1].live == ("tls_cert", "tls_key")


def test_a_reload_does_not_open_the_bridge() -> None:
    """Keys can be replaced, but that none is asked for any more needs a restart; the old ones count until then."""
    locked = of_flat({"api_key": ("a",)}, SECTIONS)
    new, changes = changed(locked, of_flat({}, SECTIONS))
    assert (changes.live, changes.restart) == ((), ("api_key",))
    assert new == locked
    assert changed(locked, of_flat({"api_key": ("b",)}, SECTIONS))[1].live == ("api_key",)
    assert changed(of_flat({}, SECTIONS), locked)[1].live == ("api_key",)


# Each setting that may change is put to use

_QWEN = {"qwen": NamedUpstream(url="wss://qwen.example/realtime", models=("q",))}


def _is_signed(server: IceServer, secret: bytes) -> bool:
    digest = hmac.digest(secret, server.username.encode(), hashlib.sha1)
    return server.credential == base64.b64encode(digest).decode()


_PROBES: dict[str, tuple[Any, Callable[[Reloader], object], object]] = {
    "trusted_proxies": (("10.0.0.0/8",), lambda r: r.rooms.gate.proxies.is_trusted("10.1.2.3"), True),
    "max_pending": (7, lambda r: r.rooms.gate.limit, 7),
    "max_pending_per_address": (7, lambda r: r.rooms.gate.limit_per_address, 7),
    "drain_s": (7.0, lambda r: r.config.server.drain_s, 7.0),
    "api_key": (("k", "l"), lambda r: r.rooms.keys.api_keys.include("l"), True),
    "allow_origin": (("https://a.example",), lambda r: r.rooms.keys.lets_page_in("https://a.example"), True),
    "page_keys": (True, lambda r: r.rooms.page_keys.limit, 60),
    "page_keys_per_minute": (7, lambda r: r.rooms.page_keys.limit, 7),
    "connect_timeout_s": (
        7.0,
        lambda r: (r.rooms.endpoint.runner.connect_timeout_s, r.rooms.endpoint.tcp.check_within_s),
        (7.0, 7.0),
    ),
    "peer_timeout_s": (7.0, lambda r: r.rooms.endpoint.runner.peer_timeout_s, 7.0),
    "outbound_queue_s": (
        7.0,
        lambda r: (r.rooms.endpoint.queue_limit_s, r.rooms.telephony.calls.queue_limit_s),
        (7, 7),
    ),
    "turn_url": (
        ("turn:t.example:7", "turns:t.example"),
        lambda r: r.rooms.turn.ice_servers("me")[0].urls,
        ["turn:t.example:7", "turns:t.example"],
    ),
    "turn_secret": ("t", lambda r: _is_signed(r.rooms.turn.ice_servers("me")[0], b"t"), True),
    "turn_ttl_s": (77, lambda r: r.rooms.turn.ttl_s, 77),
    "max_calls": (70, lambda r: r.rooms.registry.admission.max_calls, 70),
    "ended_calls": (7, lambda r: cast(Any, r.rooms.registry.ended).limit, 7),
    "ended_calls_age_s": (7.0, lambda r: cast(Any, r.rooms.registry.ended).max_age_s, 7.0),
    "max_calls_per_key": (
        7,
        lambda r: (r.rooms.quotas.calls.limit, r.rooms.quotas.agents.limit),
        (7, 7),
    ),
    "reserved_calls": (7, lambda r: r.rooms.registry.admission.max_calls_of_clients, 193),
    "max_loop_lag_ms": (7.0, lambda r: r.rooms.registry.admission.lag.limit_ms, 7.0),
    "call_limit_s": (7.0, lambda r: r.rooms.registry.limits.call_limit_s, 7.0),
    "resume_grace_s": (7.0, lambda r: r.rooms.registry.limits.resume_grace_s, 7.0),
    "conversation_bytes": (70_000, lambda r: r.rooms.registry.budgets.limits.of_conversation, 70_000),
    "conversation_bytes_per_key": (70_000, lambda r: r.rooms.registry.budgets.limits.of_key, 70_000),
    "conversation_bytes_in_all": (70_000, lambda r: r.rooms.registry.budgets.of_process.limit_bytes, 70_000),
    "max_listeners_per_call": (7, lambda r: r.rooms.registry.limits.max_listeners_per_call, 7),
    "max_listeners_per_key": (7, lambda r: r.rooms.quotas.listeners.limit, 7),
    "listener_backlog_bytes": (
        7000,
        lambda r: {
            limits.backlog_bytes
            for limits in (
                r.rooms.registry.limits.backlog,
                cast(Any, r.rooms.registry.events).limits,
                r.rooms.upstreams.agents.limits,
            )
        },
        {7000},
    ),
    "listener_backlog_ms": (700, lambda r: r.rooms.registry.limits.backlog.backlog_ms, 700),
    "replay_bytes": (7000, lambda r: r.rooms.registry.limits.backlog.replay_bytes, 7000),
    "replay_s": (7.0, lambda r: r.rooms.registry.limits.backlog.replay_s, 7.0),
    "upstream": (
        "wss://a.example/v1/realtime",
        lambda r: r.rooms.upstreams.plan.default[0].url,
        "wss://a.example/v1/realtime",
    ),
    "upstream_key": ("k", lambda r: r.rooms.upstreams.plan.default[0].key, "k"),
    "upstream_profile": ("qwen", lambda r: r.rooms.registry.default_model, "qwen3.5-omni-flash-realtime"),
    "default_model": (
        "mine",
        lambda r: (r.rooms.registry.default_model, *r.rooms.upstreams.models()),
        ("mine", "mine"),
    ),
    "upstream_fallback": (("agent",), lambda r: r.rooms.upstreams.plan.default[1].name, "agent"),
    "upstreams": (_QWEN, lambda r: r.rooms.upstreams.is_relayed("q"), True),
    "upstream_connect_timeout_s": (7.0, lambda r: r.rooms.upstreams.plan.policy.connect_s, 7.0),
    "upstream_stall_s": (7.0, lambda r: r.rooms.upstreams.plan.policy.stall_s, 7.0),
    "upstream_renew_s": (7.0, lambda r: r.rooms.upstreams.plan.policy.renew_s, 7.0),
    "upstream_tries": (7, lambda r: r.rooms.upstreams.plan.policy.tries, 7),
    "agent_wait_s": (7.0, lambda r: r.rooms.upstreams.plan.agent_wait_s, 7.0),
    "upstream_ice_server": (
        ("stun:s.example:7",),
        lambda r: r.rooms.upstreams.plan.ice_servers.stun,
        ("s.example", 7),
    ),
    "public_url": (
        "https://b.example",
        lambda r: r.rooms.telephony.hosts["twilio"].public_url("ws", "/x"),
        "wss://b.example/x",
    ),
    "carrier_grace_s": (7.0, lambda r: r.rooms.telephony.calls.settings.carrier_grace_s, 7.0),
    "carrier_parameters": (("voice",), lambda r: r.rooms.telephony.calls.settings.carrier_parameters, ("voice",)),
    "incoming_wait": (("twilio",), lambda r: r.rooms.telephony.calls.settings.has_to_wait("twilio"), True),
    "incoming_wait_s": (7.0, lambda r: r.rooms.telephony.calls.settings.incoming_wait_s, 7.0),
    "dtmf_items": (True, lambda r: r.rooms.telephony.calls.settings.dtmf_items, True),
    "log_level": ("error", lambda r: get_logger("x").is_enabled_for(30), False),
}
# tests/end_to_end/test_reload.py, tests/recording/test_archive.py
_ELSEWHERE = {"tls_cert", "tls_key", "record_max_age_s", "record_max_bytes"}
_BESIDE: dict[str, dict[str, Any]] = {
    "trusted_proxies": {"api_key": ("k",)},
    "turn_url": {"turn_url": ("turn:s.example",), "turn_secret": "s"},
    "turn_secret": {"turn_url": ("turn:s.example",), "turn_secret": "s"},
    "page_keys": {"allow_origin": ("https://a.example",)},
    "page_keys_per_minute": {"allow_origin": ("https://a.example",), "page_keys": True},
    "upstream_profile": {"upstream": "wss://a.example/v1/realtime"},
    "upstream_key": {"upstream": "wss://a.example/v1/realtime"},
}


def test_no_setting_is_forgotten() -> None:
    """Each that says that it applies without a restart is tried below, those of carriers in a test of their own."""
    changing = {name for name, one in settings_of(ROOMS).items() if one.applies is not Applies.RESTART}
    assert changing == _PROBES.keys() | _ELSEWHERE


@pytest.mark.parametrize("name", _PROBES)
async def test_a_changed_setting_is_put_to_use(name: str) -> None:
    """Whoever needs it has the new value, and the answer names it; before, it was another one."""
    value, probe, expected = _PROBES[name]
    beside = _BESIDE.get(name, {})
    source = _Source(**beside)
    async with _daemon(source) as daemon:
        if name not in ("public_url", "upstream_fallback"):  # not there before
            assert probe(daemon.reloader) != expected
        source.says(**{**beside, name: value})
        changes = await daemon.reload()
        named = changes.live if _SETTINGS[name].applies is Applies.LIVE else changes.new_calls
        assert (named, changes.restart) == ((name,), ())
        assert probe(daemon.reloader) == expected
        source.says()  # without a grace period, and as quiet as before
        await daemon.reload()


def _another(one: Setting) -> Any:
    """A value of its type that is not its default."""
    words = [word for word in one.words if word not in ("true", "false", one.field.default)]
    if one.words and not words:
        return not one.field.default
    value = words[0] if words else "x"
    return (value,) if one.is_list else value


@pytest.mark.parametrize("carrier", CARRIERS, ids=lambda carrier: carrier.name)
async def test_changed_settings_of_a_carrier_are_put_to_use(carrier: Carrier[Any]) -> None:
    """Whatever the carrier's functions ask for next is new, and so is what its calls are hung up with."""
    async with Daemon(config_for_tests()) as daemon:
        telephony = daemon.telephony
        for name, one in settings_of([carrier.settings]).items():
            if one.applies is Applies.RESTART:
                continue
            hang_up = telephony.hang_ups[carrier.name]
            new = replace(carrier.settings(), **{name: _another(one)})
            telephony.apply(TelephonySettings(public_url="https://b.example"), [new], queue_limit_s=600)
            host = telephony.hosts[carrier.name]
            assert (host.settings, host.telephony.public_url) == (new, "https://b.example")
            assert hang_up is None or telephony.hang_ups[carrier.name] is not hang_up


# What a mistake does


@pytest.mark.parametrize(
    ("wrong", "name"),
    [
        ({"record_calls": True}, "record_calls"),
        ({"upstream_profile": "nope"}, "upstream_profile"),
        ({"upstream_ice_server": ("stun:",)}, "upstream_ice_server"),
        ({"upstream": "nobody"}, "upstream"),
    ],
)
async def test_a_mistake_changes_nothing(wrong: dict[str, Any], name: str) -> None:
    """However late it is found, nothing of what was read beside it counts, and the field is named."""
    source = _Source()
    async with _daemon(source) as daemon:
        source.says(max_calls=7, api_key=("new",), **wrong)
        reply = await request("POST", f"{daemon.url}v1/config/reload")
        assert (reply.status, reply.json["error"]["code"]) == (400, "invalid_config")
        assert reply.json["error"]["param"] == name
        assert reply.json["error"]["type"] == "invalid_request_error"
        assert daemon.registry.admission.max_calls == 200
        assert (await request("GET", f"{daemon.url}v1/calls")).status == 200
        source.says(max_calls=7)
        reply = await request("POST", f"{daemon.url}v1/config/reload")
        assert reply.json == {"object": "config.reload", "live": ["max_calls"], "new_calls": [], "restart": []}


async def test_a_key_stays_beside_a_host_that_needs_a_restart() -> None:
    """A key cannot go with a change to loopback that has not happened yet: both wait for a restart."""
    source = _Source(host="0.0.0.0", advertise=("127.0.0.1",), api_key=("k",))
    async with _daemon(source) as daemon:
        source.says()
        changes = await daemon.reload()
        assert changes.restart == ("host", "api_key", "advertise")
        assert not daemon.reloader.rooms.keys.is_open


async def test_the_engine_is_not_loaded_for_a_reload() -> None:
    """A bridge that started without it goes on with the upstream that it has, and says what needs a restart."""
    source = _Source(upstream="agent")
    async with _daemon(source) as daemon:
        source.says(max_calls=7)
        changes = await daemon.reload()
        assert (changes.live, changes.restart) == (("max_calls",), ("upstream",))
        assert daemon.reloader.rooms.upstreams.plan.default[0].name == "agent"


async def test_two_reloads_come_one_after_the_other() -> None:
    """The second one finds nothing more to change."""
    source = _Source()
    async with _daemon(source) as daemon:
        source.says(max_calls=7)
        first, second = await asyncio.gather(daemon.reload(), daemon.reload())
        assert (first.live, second.live) == (("max_calls",), ())


# Who may ask for it


async def test_a_reload_takes_an_api_key() -> None:
    """No key, a wrong one and a minted one are refused; keys that the reload brings count from then on."""
    source = _Source(api_key=("old",))
    async with _daemon(source) as daemon:

        async def asked(path: str, key: str | None) -> int:
            headers = {} if key is None else {"Authorization": f"Bearer {key}"}
            return (await request("POST", f"{daemon.url}{path}", headers=headers)).status

        headers = {"Authorization": "Bearer old", "Content-Type": "application/json"}
        reply = await request("POST", f"{daemon.url}v1/realtime/client_secrets", headers=headers, body="{}")
        minted = reply.json["value"]
        source.says(api_key=("new", "newer"))
        assert [await asked("v1/config/reload", key) for key in (None, "new", minted)] == [401, 401, 403]
        assert await asked("v1/config/reload", "old") == 200
        assert [await asked("v1/config/reload", key) for key in ("old", "new", "newer")] == [401, 200, 200]
        assert await asked("v1/realtime/calls", minted) == 400  # it opens what it opened, to whoever brings an offer


async def test_pages_of_a_new_origin_may_read_answers() -> None:
    """CORS and the check of origins follow the settings, there and back, also to every origin."""
    source = _Source(api_key=("k",))
    async with _daemon(source) as daemon:

        async def allowed() -> tuple[int, str | None]:
            headers = {"Authorization": "Bearer k", "Origin": "https://a.example"}
            reply = await request("GET", f"{daemon.url}v1/calls", headers=headers)
            return reply.status, reply.headers.get("access-control-allow-origin")

        assert await allowed() == (403, None)
        source.says(api_key=("k",), allow_origin=("https://a.example",))
        await daemon.reload()
        assert await allowed() == (200, "https://a.example")
        source.says(api_key=("k",), allow_origin=("*",))
        await daemon.reload()
        assert await allowed() == (200, "*")
        source.says(api_key=("k",))
        await daemon.reload()
        assert await allowed() == (403, None)


def test_the_level_counts_for_loggers_that_are_there() -> None:
    """A running call's logger writes what the new level says, with its keys."""
    log = get_logger("room", call_id="rtc_1")
    with structlog.testing.capture_logs() as lines:
        set_level("error")
        log.info("before")
        set_level("info")
        log.info("after")
    assert lines == [{"event": "after", "log_level": "info", "room": "room", "call_id": "rtc_1"}]
