"""Every setting of the daemon: its type, limits, default and meaning, all in the fields of ``Config``.

The order is defaults, TOML file, environment, flags; the later one wins. Each value is converted and checked on its
own, so that a bad one stops the start with a single line that names the key and where it came from. Flags, environment
names and the table in docs/reference are made from the fields: a new setting is a new field and nothing else.
"""

import argparse
import os
import re
import ssl
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import msgspec
from msgspec import Meta
from msgspec.structs import FieldInfo, fields

from bridge.errors import ConfigError

__all__ = [
    "ANY_ORIGIN",
    "MINTED_PREFIX",
    "ORIGIN_PATTERN",
    "Config",
    "UpstreamSettings",
    "add_flags",
    "is_loopback",
    "load",
    "settings_table",
]

_ENVIRONMENT_PREFIX = "BRIDGE_"
# Shown in no message; each may also be read from a file, as ``NAME_file`` wherever settings come from.
_SECRET = frozenset(
    {
        "api_key",
        "asterisk_secret",
        "audiosocket_uuid",
        "telnyx_api_key",
        "telnyx_secret",
        "twilio_auth_token",
        "upstream_ice_server",
        "upstream_key",
    }
)
_HIDDEN = _SECRET | {"upstreams"}  # tables that hold a secret
_FILE = "_file"

# RFC 6454 §6.2: what a browser sends as Origin. Lower case and nothing behind the port, so that comparing is enough.
ORIGIN_PATTERN = r"^[a-z][a-z0-9+.-]*://(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(:[0-9]{1,5})?$"

MINTED_PREFIX = "ek_"
"""What every key begins with that the daemon mints for a client; no API key does."""

ANY_ORIGIN = "*"
"""In the place of an origin: pages of every one."""

# The public origin, and perhaps a path before ours, that a proxy adds.
_PUBLIC_URL = re.compile(r"https?://[^\s/?#@]+(/[^\s?#]*)?")
_UPSTREAM_URL = re.compile(r"(wss?|https?)://[^\s/@]+(/\S*)?")

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")

_Text = Annotated[str, Meta(min_length=1)]
_Positive = Annotated[int, Meta(ge=1)]
_Count = Annotated[int, Meta(ge=0)]
_Seed = Annotated[int, Meta(ge=0)]
_Port = Annotated[int, Meta(ge=0, le=65_535)]


class UpstreamSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One table ``[upstreams.NAME]`` of the file."""

    url: _Text
    key: _Text | None = None
    key_env: _Text | None = None
    """The environment variable that holds the key."""
    profile: _Text = "openai"
    model: _Text | None = None
    """What the model is called there; unset: as the client calls it."""
    models: tuple[_Text, ...] = ()
    """Calls that ask for one of these go here."""

    def __repr__(self) -> str:
        """Without the key."""
        return f"UpstreamSettings(url={self.url!r}, profile={self.profile!r}, models={self.models!r})"


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """The settings of one daemon, checked and never changed."""

    host: Annotated[
        _Text, Meta(description="address to listen on; media listens on all of the machine's if this is loopback")
    ] = "127.0.0.1"
    port: Annotated[_Port, Meta(description="TCP port of HTTP and WebSocket; 0 picks a free one")] = 8080
    udp_port: Annotated[
        _Port | None, Meta(description="UDP port of all media; unset: the number of the TCP port, 0 picks a free one")
    ] = None
    advertise: Annotated[
        tuple[_Text, ...],
        Meta(description="IP address that peers are told to send media to; unset: those on which media listens"),
    ] = ()
    tls_cert: Annotated[_Text | None, Meta(description="path of the certificate chain (PEM); turns HTTPS on")] = None
    tls_key: Annotated[_Text | None, Meta(description="path of its private key (PEM)")] = None
    trusted_proxies: Annotated[
        tuple[_Text, ...],
        Meta(
            description="address or network of reverse proxies whose `X-Forwarded-For`, `-Proto` and `-Host` are "
            "believed; anybody else's are not"
        ),
    ] = ()
    upstream: Annotated[
        _Text,
        Meta(
            description="who answers: `local` (the embedded engine), `agent` (a socket that attaches as one), "
            "`ws(s)://…/v1/realtime`, `http(s)://…/v1/realtime/calls` (over WebRTC), or the name of one of `upstreams`"
        ),
    ] = "local"
    upstream_key: Annotated[_Text | None, Meta(description="key that `upstream` asks for")] = None
    upstream_profile: Annotated[
        _Text, Meta(description="name of what is particular about `upstream`: see the guide on upstreams")
    ] = "openai"
    default_model: Annotated[
        _Text, Meta(description="model of a call that names none; a profile's own, if it has one, unless this is set")
    ] = "gpt-realtime-2.1"
    upstream_fallback: Annotated[
        tuple[_Text, ...], Meta(description="who answers where `upstream` does not; tried in order")
    ] = ()
    upstreams: Annotated[
        dict[_Text, UpstreamSettings],
        Meta(description="more upstreams, in the file only: `url`, `key` or `key_env`, `profile`, `model`, `models`"),
    ] = {}
    upstream_connect_timeout_s: Annotated[
        float, Meta(ge=0.1, le=300, description="time in which an upstream must answer, in seconds")
    ] = 10.0
    upstream_stall_s: Annotated[
        float, Meta(ge=0.1, le=600, description="silence of an upstream that owes an answer, until it is redialled")
    ] = 15.0
    upstream_renew_s: Annotated[
        float, Meta(ge=1, le=604_800, description="age at which an upstream is replaced before it ends the session")
    ] = 3300.0
    upstream_tries: Annotated[int, Meta(ge=1, le=100, description="tries of each upstream, with backoff")] = 3
    agent_wait_s: Annotated[
        float, Meta(ge=0, le=3600, description="time in which an agent must attach to a call, in seconds")
    ] = 10.0
    upstream_ice_server: Annotated[
        tuple[_Text, ...],
        Meta(description="for upstreams over WebRTC: `stun:HOST:PORT`, `turn:USER:PASSWORD@HOST:PORT`"),
    ] = ()
    engine: Annotated[
        Literal["auto", "local", "parrot"],
        Meta(
            description="the embedded engine: `local` hears and speaks, `parrot` repeats; `auto`: `local` if installed"
        ),
    ] = "auto"
    engine_seed: Annotated[
        _Seed | None, Meta(description="makes the local engine say the same, to the bit, whenever it hears the same")
    ] = None
    engine_whisper: Annotated[
        _Text | None, Meta(description="folder of another Whisper model for it, in CTranslate2's form")
    ] = None
    api_key: Annotated[
        tuple[_Text, ...], Meta(description="key that opens the API; unset: no key is asked for, on loopback only")
    ] = ()
    allow_origin: Annotated[
        tuple[_Text, ...],
        Meta(description="web origin (`scheme://host[:port]`) whose pages may connect; `*`: every one, with `api_key`"),
    ] = ()
    page_keys: Annotated[
        bool, Meta(description="let `GET /session` give a one-minute key to any page of `allow_origin`, without a key")
    ] = False
    page_keys_per_minute: Annotated[
        int, Meta(ge=1, description="keys that `GET /session` gives to one address; an IPv6 /64 counts as one")
    ] = 60
    max_calls: Annotated[int, Meta(ge=1, description="calls at a time; one more is answered with 429")] = 200
    max_calls_per_key: Annotated[
        _Positive | None,
        Meta(
            description="calls at a time of one `ek_` key, and agents of one; API keys have no such limit; "
            "unset: a quarter of `max_calls`",
        ),
    ] = None
    reserved_calls: Annotated[
        _Count | None,
        Meta(
            description="how many of `max_calls` are for API keys alone, so that `ek_` keys cannot take all; "
            "unset: a tenth of them",
        ),
    ] = None
    max_loop_lag_ms: Annotated[
        float,
        Meta(
            ge=0,
            description="lateness of the event loop, averaged over two seconds, beyond which new calls get 503, "
            "in milliseconds; 0: none",
        ),
    ] = 100.0
    max_listeners_per_call: Annotated[int, Meta(ge=0, description="sockets attached to one call")] = 1000
    max_listeners_per_key: Annotated[int, Meta(ge=0, description="sockets attached to calls with one key")] = 2000
    call_limit_s: Annotated[float, Meta(ge=1, le=604_800, description="longest call, in seconds")] = 3600.0
    connect_timeout_s: Annotated[
        float, Meta(ge=0.1, le=300, description="time in which an answered offer's peer must connect, in seconds")
    ] = 10.0
    peer_timeout_s: Annotated[
        float, Meta(ge=0.1, le=300, description="silence after which a peer counts as gone, in seconds")
    ] = 10.0
    drain_s: Annotated[
        float, Meta(ge=0, le=86_400, description="grace period of running calls at a stop, in seconds")
    ] = 10.0
    max_pending: Annotated[
        int, Meta(ge=1, description="connections that have not shown yet what they are for: requests, handshakes")
    ] = 1024
    max_pending_per_address: Annotated[
        int, Meta(ge=1, description="those of one address that is no trusted proxy; one more gets 503 and is closed")
    ] = 256
    close_deadline_s: Annotated[
        float, Meta(ge=0.1, le=60, description="time after which whatever hangs in closing is cut, in seconds")
    ] = 2.0
    listener_backlog_bytes: Annotated[int, Meta(ge=4096, description="bytes that may wait for one slow listener")] = (
        1_048_576
    )
    listener_backlog_ms: Annotated[
        int, Meta(ge=100, description="sound that may wait for one slow listener, in milliseconds")
    ] = 5000
    replay_bytes: Annotated[
        int,
        Meta(ge=0, description="bytes of events, and as many of sound, kept of each call for listeners that come back"),
    ] = 1_048_576
    conversation_bytes: Annotated[
        int, Meta(ge=65_536, description="bytes of text, sound and pictures that one conversation may keep")
    ] = 33_554_432
    conversation_bytes_per_key: Annotated[
        int, Meta(ge=65_536, description="bytes that all conversations of one `ek_` key may keep")
    ] = 67_108_864
    conversation_bytes_in_all: Annotated[
        int, Meta(ge=65_536, description="bytes that all conversations of the process may keep")
    ] = 536_870_912
    record_dir: Annotated[
        _Text | None, Meta(description="path of the directory for recordings; unset: none are made")
    ] = None
    record_calls: Annotated[
        bool, Meta(description="record every call from its beginning, not only those that are asked for")
    ] = False
    record_format: Annotated[
        Literal["ogg", "wav"], Meta(description="`ogg`: Opus at 48 kbit/s; `wav`: PCM16, 24 kHz; stereo both")
    ] = "ogg"
    resume_grace_s: Annotated[
        float, Meta(ge=0, le=3600, description="time in which a lost owner or peer may come back, in seconds; 0: none")
    ] = 30.0
    outbound_queue_s: Annotated[
        float,
        Meta(
            ge=1,
            le=86_400,
            description="sound that may wait to be played to a caller, in seconds, within the budgets of bytes",
        ),
    ] = 600.0
    public_url: Annotated[
        _Text | None,
        Meta(description="`https://host` at which carriers reach the bridge; what they sign begins with it"),
    ] = None
    twilio_auth_token: Annotated[
        tuple[_Text, ...], Meta(description="auth token, or signing key, of a Twilio account; opens its endpoint")
    ] = ()
    twilio_require_token: Annotated[
        bool, Meta(description="ask each Twilio stream for a single-use token as well, as its parameter `token`")
    ] = True
    telnyx_secret: Annotated[
        tuple[_Text, ...], Meta(description="what Telnyx is told as `stream_auth_token`; opens its endpoint")
    ] = ()
    telnyx_api_key: Annotated[
        _Text | None, Meta(description="key of Telnyx's API, to hang up with: closing a stream leaves the caller there")
    ] = None
    asterisk_secret: Annotated[
        tuple[_Text, ...], Meta(description="`password` in Asterisk's `websocket_client.conf`; opens its endpoint")
    ] = ()
    asterisk_url: Annotated[
        _Text | None, Meta(description="`ws://host:8088/media` of the Asterisk whose waiting calls may be fetched")
    ] = None
    audiosocket_port: Annotated[_Port | None, Meta(description="TCP port of AudioSocket; unset: closed")] = None
    audiosocket_host: Annotated[
        _Text, Meta(description="address to listen on for AudioSocket, which has no encryption: keep it private")
    ] = "127.0.0.1"
    audiosocket_uuid: Annotated[
        tuple[_Text, ...], Meta(description="UUID that an AudioSocket call may bring, again and again")
    ] = ()
    carrier_grace_s: Annotated[
        float, Meta(ge=0, le=300, description="time in which a telephone call's lost connection may return, in seconds")
    ] = 5.0
    carrier_parameters: Annotated[
        tuple[Literal["instructions", "voice", "model"], ...],
        Meta(description="`instructions`, `voice` or `model`: what a telephone call's parameters may set"),
    ] = ()
    dtmf_items: Annotated[
        bool, Meta(description="write keys that a telephone's caller presses into the conversation, as text")
    ] = False
    log_format: Annotated[
        Literal["auto", "console", "json"], Meta(description="`auto`: `console` on a terminal, `json` elsewhere")
    ] = "auto"
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"], Meta(description="the least severe lines to write")
    ] = "info"

    @property
    def calls_per_key(self) -> int:
        """``max_calls_per_key``, or what it is if it is unset: a quarter of all calls."""
        return max(1, self.max_calls // 4) if self.max_calls_per_key is None else self.max_calls_per_key

    @property
    def calls_in_reserve(self) -> int:
        """``reserved_calls``, or what it is if it is unset: a tenth of all calls."""
        return self.max_calls // 10 if self.reserved_calls is None else self.reserved_calls

    def __repr__(self) -> str:
        """All settings, but of the secret ones only how many there are."""
        shown = (
            f"{name}=<{len(value or ())}>" if name in _HIDDEN else f"{name}={value!r}"
            for name, value in msgspec.structs.asdict(self).items()
        )
        return f"Config({', '.join(shown)})"


_FIELDS: dict[str, FieldInfo] = {field.name: field for field in fields(Config)}


def load(argv_values: Mapping[str, Any], environ: Mapping[str, str], config_path: str | None) -> Config:
    """The settings of this start, or ``ConfigError``; of ``argv_values`` only what names a setting is read."""
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for given in map(_opened, _all_given(argv_values, environ, config_path)):
        values[given.name] = _convert(given)
        origins[given.name] = given.origin
    config = Config(**values)
    _check(config, origins)
    return config


def add_flags(parser: argparse.ArgumentParser) -> None:
    """One flag for each setting; a flag that is not given leaves nothing behind in the namespace."""
    for name, field in _FIELDS.items():
        if _is_table(field):
            continue
        parser.add_argument(
            _flag(name),
            dest=name,
            action="append" if _is_list(field) else "store",
            default=argparse.SUPPRESS,
            metavar="|".join(_words(field)) or None,
            help=f"{_description(field)} (default: {_default(field)})".replace("%", "%%"),
        )
        if name in _SECRET:
            parser.add_argument(
                _flag(name + _FILE), default=argparse.SUPPRESS, metavar="PATH", help=f"file that holds {_flag(name)}"
            )


def settings_table() -> str:
    """All settings as a table in Markdown, for docs/reference/settings.md."""
    rows = ["| flag | environment | default | meaning |", "|---|---|---|---|"]
    for name, field in _FIELDS.items():
        meaning = _description(field)
        if _is_list(field):
            meaning += "; repeatable, in the environment separated by commas"
        if _is_table(field):
            rows.append(f"| `[{name}.NAME]` | | {_default(field)} | {meaning} |")
            continue
        if name in _SECRET:
            meaning += f"; `{_flag(name + _FILE)}`, `{_variable(name + _FILE)}`: a file that holds it"
        rows.append(f"| `{_flag(name)}` | `{_variable(name)}` | {_default(field)} | {meaning} |")
    return "\n".join(rows) + "\n"


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach ``host``; any name but ``localhost`` is taken for reachable."""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


@dataclass(frozen=True, slots=True)
class _Given:
    """One value as somebody wrote it; text still has to be read as a number or a list."""

    name: str
    value: Any
    origin: str
    is_text: bool = True


def _all_given(argv_values: Mapping[str, Any], environ: Mapping[str, str], config_path: str | None) -> Iterator[_Given]:
    """Every value that was given, the one that wins last."""
    if config_path is not None:
        for key, value in _read_file(config_path).items():
            yield _Given(key, value, f"file {config_path}", is_text=False)
    for variable, text in environ.items():
        # An empty variable is an unset one: that is how container tools pass on what nobody set.
        if variable.startswith(_ENVIRONMENT_PREFIX) and text:
            name = variable.removeprefix(_ENVIRONMENT_PREFIX).lower()
            yield _Given(name, text, f"environment {variable}")
    for name, value in argv_values.items():
        if (name in _FIELDS or _is_secret_file(name)) and value is not None:
            yield _Given(name, value, f"flag {_flag(name)}")


def _is_secret_file(name: str) -> bool:
    return name.endswith(_FILE) and name.removesuffix(_FILE) in _SECRET


def _opened(given: _Given) -> _Given:
    """A secret that was given as the path of a file: what stands in it; where there may be several, one a line."""
    if not _is_secret_file(given.name):
        return given
    try:
        lines = Path(str(given.value)).read_text().split()
    except (OSError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise _refusal(given.name, f"cannot read {given.value}: {reason}", given.origin) from None
    if not lines:
        raise _refusal(given.name, f"{given.value} is empty", given.origin)
    name = given.name.removesuffix(_FILE)
    value = lines if _is_list(_FIELDS[name]) else lines[0]
    return _Given(name, value, f"file {given.value}, {given.origin}", is_text=False)


def _read_file(path: str) -> dict[str, Any]:
    try:
        with Path(path).open("rb") as file:
            return tomllib.load(file)
    except OSError as error:
        raise ConfigError(f"config: cannot read {path}: {error.strerror}", param="config") from None
    except ValueError as error:
        raise ConfigError(f"config: {path} is not TOML: {error}", param="config") from None


def _convert(given: _Given) -> Any:
    """The value in its field's type and limits."""
    field = _FIELDS.get(given.name)
    if field is None:
        closest = get_close_matches(given.name, _FIELDS, n=1)
        hint = f", did you mean {closest[0]}?" if closest else ""
        raise _refusal(given.name, f"unknown setting{hint}", given.origin)
    value = given.value
    if _is_list(field) and isinstance(value, str) and given.is_text:
        value = [part for part in map(str.strip, value.split(",")) if part]
    try:
        return msgspec.convert(value, field.type, strict=not given.is_text)
    except msgspec.ValidationError as error:
        raise _refusal(given.name, f"{_expectation(field, error)}, got {_shown(given)}", given.origin) from None


def _check(config: Config, origins: Mapping[str, str]) -> None:
    """What no single field can say."""

    def refuse(name: str, reason: str) -> ConfigError:
        return _refusal(name, reason, origins.get(name, "default"))

    for path, name, other in ((config.tls_cert, "tls_cert", "tls_key"), (config.tls_key, "tls_key", "tls_cert")):
        if path is None:
            continue
        if getattr(config, other) is None:
            raise refuse(name, f"needs {other} as well")
        try:
            Path(path).open("rb").close()
        except OSError as error:
            raise refuse(name, f"cannot read {path}: {error.strerror}") from None
    if config.tls_cert and config.tls_key:
        try:
            ssl.create_default_context().load_cert_chain(config.tls_cert, config.tls_key)
        except ssl.SSLError as error:
            reason = f"{config.tls_cert} and its key {config.tls_key} are no certificate: {error.reason or error}"
            raise refuse("tls_cert", reason) from None
    for network in config.trusted_proxies:
        if not _is_network(network):
            raise refuse("trusted_proxies", f"expected an IP address or network (10.0.0.0/8), got {network}")
    if config.trusted_proxies and not config.api_key:
        raise refuse("trusted_proxies", "needs api_key as well: a proxy brings others than this machine")
    _check_upstreams(config, refuse)
    if config.record_calls and config.record_dir is None:
        raise refuse("record_calls", "needs record_dir as well")
    for address in config.advertise:
        if not _is_address(address):
            raise refuse("advertise", f"expected an IP address, not a name, got {address}")
        if not _can_be_sent_to(address):
            raise refuse("advertise", f"expected an address of one machine, without a zone, got {address}")
    if any(key.startswith(MINTED_PREFIX) for key in config.api_key):
        raise refuse("api_key", f"a key that begins with {MINTED_PREFIX} is taken for one that was minted")
    if config.calls_in_reserve > config.max_calls:
        raise refuse("reserved_calls", f"expected at most max_calls, {config.max_calls}, got {config.reserved_calls}")
    if ANY_ORIGIN in config.allow_origin:
        if not config.api_key:
            raise refuse(
                "allow_origin", "* lets every web page in, and without api_key nothing else protects the bridge"
            )
        if config.page_keys:
            raise refuse("page_keys", "with allow_origin * every web page would get keys; name the origins that shall")
    for origin in config.allow_origin:
        if origin != ANY_ORIGIN and not re.fullmatch(ORIGIN_PATTERN, origin):
            raise refuse("allow_origin", f"expected scheme://host[:port] in lower case, got {origin}")
    if config.public_url is not None and not _PUBLIC_URL.fullmatch(config.public_url):
        raise refuse("public_url", f"expected https://host, perhaps with a path, got {config.public_url}")
    if config.twilio_auth_token and config.public_url is None:
        raise refuse("twilio_auth_token", "needs public_url as well: a signature covers the whole address")
    if config.asterisk_url is not None and not config.asterisk_url.startswith(("ws://", "wss://")):
        raise refuse("asterisk_url", f"expected ws://host:8088/media, got {config.asterisk_url}")
    if config.audiosocket_host != "localhost" and not _is_address(config.audiosocket_host):
        raise refuse("audiosocket_host", f"expected an IP address or localhost, got {config.audiosocket_host}")
    for uuid in config.audiosocket_uuid:
        if not _UUID.fullmatch(uuid):
            raise refuse("audiosocket_uuid", "expected a UUID in lower case, got a value that is not shown")
    if config.host != "localhost" and not _is_address(config.host):
        raise refuse("host", f"expected an IP address or localhost, got {config.host}")
    if not config.api_key and not is_loopback(config.host):
        advice = f"set {_flag('api_key')} or {_variable('api_key')}, or listen on 127.0.0.1"
        raise refuse("host", f"others can reach {config.host} and no api_key is set: {advice}")


def _check_upstreams(config: Config, refuse: Callable[[str, str], ConfigError]) -> None:
    names = ("local", "agent", *config.upstreams)
    for setting, given in (("upstream", (config.upstream,)), ("upstream_fallback", config.upstream_fallback)):
        for name in given:
            if name not in names and not _UPSTREAM_URL.fullmatch(name):
                raise refuse(setting, f"expected {', '.join(names)} or a URL (ws, wss, http, https), got {name[:100]}")
    owners: dict[str, str] = {}
    for name, settings in config.upstreams.items():
        if name in ("local", "agent"):
            raise refuse("upstreams", f"{name} is a name that the bridge itself has given; choose another")
        for model in settings.models:
            if owners.setdefault(model, name) != name:
                raise refuse("upstreams", f"{name}.models: calls for {model[:100]} go to {owners[model]} already")
        if settings.url not in ("local", "agent") and not _UPSTREAM_URL.fullmatch(settings.url):
            raise refuse("upstreams", f"{name}.url: expected a URL (ws, wss, http, https), got {settings.url[:100]}")
        if settings.key_env is not None and not os.environ.get(settings.key_env):
            raise refuse("upstreams", f"{name}.key_env: the environment has no {settings.key_env}")


def _refusal(name: str, reason: str, origin: str) -> ConfigError:
    return ConfigError(f"{name}: {reason} (from {origin})", param=name)


def _expectation(field: FieldInfo, error: msgspec.ValidationError) -> str:
    """What msgspec wanted, without its quotes, its path and its name for the type that it got."""
    if words := _words(field):
        return f"expected {' | '.join(words)}"
    wanted = re.split(r", got | - at ", str(error), maxsplit=1)[0]
    return wanted.replace("`", "").replace(" | null", "").replace("Expected", "expected")


def _shown(given: _Given) -> str:
    """The value on one line and cut; text as it was typed, what a file held as a literal, a secret not at all."""
    if given.name in _HIDDEN:
        return "a value that is not shown"
    literal = repr(given.value)[:100]
    return literal.strip("'\"") if given.is_text else literal


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def _can_be_sent_to(address: str) -> bool:
    """Whether others can send to it; an interface's name behind ``%`` means something on this machine alone."""
    parsed = ip_address(address)
    return not parsed.is_unspecified and not parsed.is_multicast and "%" not in address


def _is_network(text: str) -> bool:
    try:
        ip_network(text, strict=False)
    except ValueError:
        return False
    return True


def _type(field: FieldInfo) -> Any:
    """The type without its ``Annotated``."""
    return field.type.__origin__


def _words(field: FieldInfo) -> tuple[str, ...]:
    """Those of which the value is one, or of which a list is made; empty where it may be anything else."""
    kind = get_args(_type(field))[0] if _is_list(field) else _type(field)
    return ("true", "false") if kind is bool else get_args(kind) if get_origin(kind) is Literal else ()


def _is_list(field: FieldInfo) -> bool:
    return get_origin(_type(field)) is tuple


def _is_table(field: FieldInfo) -> bool:
    return get_origin(_type(field)) is dict


def _description(field: FieldInfo) -> str:
    return str(field.type.__metadata__[-1].description)


def _default(field: FieldInfo) -> str:
    value = field.default
    if value is None or value == () or _is_table(field):
        return "unset"
    if isinstance(value, bool):
        return str(value).lower()
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _variable(name: str) -> str:
    return _ENVIRONMENT_PREFIX + name.upper()
