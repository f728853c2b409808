"""The settings of each room: type, limits, default, meaning, when a change applies, and what does not fit together.

A carrier's settings are in its own package: ``bridge/telephony/NAME/settings.py``.
"""

import re
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, Self

from bridge.config.addresses import can_be_sent_to, is_address, is_loopback, is_network
from bridge.config.answering import EngineSettings, NamedUpstream, UpstreamSettings
from bridge.config.cluster import ClusterSettings
from bridge.config.fields import (
    Applies,
    Count,
    Fault,
    Port,
    Positive,
    Section,
    Text,
    flag_of,
    setting,
    variable_of,
)
from bridge.config.observing import ObserveSettings
from bridge.config.recording import RecordingSettings
from bridge.config.turn import TurnSettings
from bridge.config.words import masked

if TYPE_CHECKING:
    from bridge.config.config import Config

__all__ = [
    "ANY_ORIGIN",
    "MINTED_PREFIX",
    "ORIGIN_PATTERN",
    "ROOMS",
    "AccessSettings",
    "CallSettings",
    "EngineSettings",
    "ListenerSettings",
    "LogSettings",
    "MediaSettings",
    "NamedUpstream",
    "ObserveSettings",
    "RecordingSettings",
    "ServerSettings",
    "TelephonySettings",
    "UpstreamSettings",
]

# RFC 6454 §6.2: what a browser sends as Origin. It is in lower case and ends with the port, so comparing is enough.
ORIGIN_PATTERN = r"^[a-z][a-z0-9+.-]*://(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(:[0-9]{1,5})?$"

MINTED_PREFIX = "ek_"
"""The beginning of every key that the daemon mints for a client; no API key begins so."""

EVERY_CARRIER = "*"
"""Stands for all carriers, in place of a carrier's name."""

ANY_ORIGIN = "*"
"""Stands for pages of all origins, in place of an origin."""

# The public origin, perhaps with a path that a proxy adds before ours.
_PUBLIC_URL = re.compile(r"https?://[^\s/?#@]+(/[^\s?#]*)?")

LIVE, NEW_CALLS, RESTART = Applies.LIVE, Applies.NEW_CALLS, Applies.RESTART


class ServerSettings(Section, frozen=True, kw_only=True):
    """The TCP port of HTTP and WebSocket, and the life of the process."""

    section: ClassVar[str] = "server"
    title: ClassVar[str] = "server: addresses, ports and certificates"

    host: Annotated[
        Text,
        setting(
            RESTART, "address to listen on; if it is loopback, media still listens on all of the machine's addresses"
        ),
    ] = "127.0.0.1"
    port: Annotated[Port, setting(RESTART, "TCP port for HTTP and WebSocket; 0: a free one")] = 8080
    tls_cert: Annotated[Text | None, setting(LIVE, "path of the certificate chain (PEM); turns on HTTPS")] = None
    tls_key: Annotated[Text | None, setting(LIVE, "path of its private key (PEM)")] = None
    trusted_proxies: Annotated[
        tuple[Text, ...],
        setting(
            LIVE,
            "address or network of a reverse proxy whose `X-Forwarded-For`, `-Proto` and `-Host` headers are trusted; "
            "all others are ignored",
        ),
    ] = ()
    max_pending: Annotated[
        int, setting(LIVE, "maximum number of connections still in their request or handshake", ge=1)
    ] = 1024
    max_pending_per_address: Annotated[
        int,
        setting(
            LIVE, "maximum from one address, unless it is a trusted proxy; further ones get 503 and are closed", ge=1
        ),
    ] = 256
    drain_s: Annotated[
        float, setting(LIVE, "how long running calls may continue at a stop, in seconds", ge=0, le=86_400)
    ] = 10.0
    close_deadline_s: Annotated[
        float,
        setting(RESTART, "how long closing may take before what still hangs is cut off, in seconds", ge=0.1, le=60),
    ] = 2.0

    def faults(self, config: "Config") -> Iterator[Fault]:
        """Finds a certificate that is none, proxies without keys, and a host that others reach without a key."""
        yield from self._certificate_faults()
        for network in self.trusted_proxies:
            if not is_network(network):
                yield Fault("trusted_proxies", f"must be an IP address or network (10.0.0.0/8), got {network!r}")
        api_key = config.access.api_key
        if self.trusted_proxies and not api_key:
            yield Fault("trusted_proxies", "needs api_key as well: a proxy forwards requests from other machines")
        if self.host != "localhost" and not is_address(self.host):
            yield Fault("host", f"must be an IP address or localhost, got {self.host!r}")
        elif not api_key and not is_loopback(self.host):
            advice = f"set {flag_of('api_key')} or {variable_of('api_key')}, or listen on 127.0.0.1"
            yield Fault("host", f"other machines can reach {self.host}, and no api_key is set: {advice}")

    def fixed_against(self, new: Self) -> set[str]:
        """Returns the settings of the certificate if HTTPS is turned on or off.

        A certificate can be replaced at any time.
        """
        return {"tls_cert", "tls_key"} if (self.tls_cert is None) is not (new.tls_cert is None) else set()

    def _certificate_faults(self) -> Iterator[Fault]:
        both = (("tls_cert", self.tls_cert), ("tls_key", self.tls_key))
        for name, path in both:
            if path is None:
                continue
            other = "tls_key" if name == "tls_cert" else "tls_cert"
            if getattr(self, other) is None:
                yield Fault(name, f"needs {other} as well")
                return
            try:
                Path(path).open("rb").close()
            except OSError as error:
                yield Fault(name, f"cannot read {path}: {error.strerror}")
                return
        if self.tls_cert and self.tls_key:
            try:
                ssl.create_default_context().load_cert_chain(self.tls_cert, self.tls_key)
            except ssl.SSLError as error:
                reason = f"{self.tls_cert} and its key {self.tls_key} are no certificate: {error.reason or error}"
                yield Fault("tls_cert", reason)


class AccessSettings(Section, frozen=True, kw_only=True):
    """The settings of who may come in."""

    section: ClassVar[str] = "access"
    title: ClassVar[str] = "access: keys and web origins"

    api_key: Annotated[
        tuple[Text, ...],
        setting(LIVE, "key that opens the API; unset: no key is required, and only loopback is served", is_secret=True),
    ] = ()
    allow_origin: Annotated[
        tuple[Text, ...],
        setting(LIVE, "web origin (`scheme://host[:port]`) whose pages may connect; `*`: any, which needs `api_key`"),
    ] = ()
    page_keys: Annotated[
        bool,
        setting(LIVE, "let any page from `allow_origin` get a one-minute key from `GET /session` without showing one"),
    ] = False
    page_keys_per_minute: Annotated[
        int,
        setting(
            LIVE,
            "maximum number of keys that `GET /session` gives to one address per minute; an IPv6 /64 "
            "counts as one address",
            ge=1,
        ),
    ] = 60

    @property
    def page_keys_limit(self) -> int:
        """``page_keys_per_minute``, or 0 if pages get no keys."""
        return self.page_keys_per_minute if self.page_keys and self.allow_origin else 0

    def fixed_against(self, new: Self) -> set[str]:
        """Returns ``api_key`` if no key is asked for any more, which takes a restart.

        Keys can be replaced without one.
        """
        return {"api_key"} if self.api_key and not new.api_key else set()

    def faults(self, config: "Config") -> Iterator[Fault]:
        """Finds keys that look minted, origins that no browser sends, and access for the pages of everybody."""
        if any(key.startswith(MINTED_PREFIX) for key in self.api_key):
            yield Fault("api_key", f"a key that begins with {MINTED_PREFIX} would be mistaken for a minted key")
        if ANY_ORIGIN in self.allow_origin:
            if not self.api_key:
                reason = "* admits every web page, and without api_key nothing else protects the bridge"
                yield Fault("allow_origin", reason)
            if self.page_keys:
                reason = "with allow_origin * every web page could get keys; list the allowed origins instead"
                yield Fault("page_keys", reason)
        for origin in self.allow_origin:
            if origin != ANY_ORIGIN and not re.fullmatch(ORIGIN_PATTERN, origin):
                yield Fault("allow_origin", f"must be scheme://host[:port] in lower case, got {origin!r}")


class MediaSettings(Section, frozen=True, kw_only=True):
    """WebRTC: the UDP port of all media, and peers."""

    section: ClassVar[str] = "media"
    title: ClassVar[str] = "media: WebRTC peers and their UDP port"

    udp_port: Annotated[
        Port | None,
        setting(RESTART, "UDP port for all media; unset: the same number as the TCP port; 0: a free one"),
    ] = None
    ice_tcp_port: Annotated[
        Port | None,
        setting(RESTART, "TCP port for media if UDP is blocked (ICE-TCP); unset: none; 0: a free one"),
    ] = None
    ice_tcp_on_port: Annotated[
        bool,
        setting(RESTART, "accept ICE-TCP on `port` too, beside HTTP, unless `host` is loopback"),
    ] = True
    advertise: Annotated[
        tuple[Text, ...],
        setting(RESTART, "IP address to which peers send media; unset: the addresses on which media listens"),
    ] = ()
    connect_timeout_s: Annotated[
        float,
        setting(
            NEW_CALLS, "how long a peer may take to connect after its offer is answered, in seconds", ge=0.1, le=300
        ),
    ] = 10.0
    peer_timeout_s: Annotated[
        float, setting(LIVE, "silence after which a peer is considered gone, in seconds", ge=0.1, le=300)
    ] = 10.0
    outbound_queue_s: Annotated[
        float,
        setting(
            NEW_CALLS,
            "maximum amount of sound that waits to be played to a caller, in seconds, within the byte budgets",
            ge=1,
            le=86_400,
        ),
    ] = 600.0

    def faults(self, config: "Config") -> Iterator[Fault]:
        """Finds addresses to which no peer could send."""
        for address in self.advertise:
            if not is_address(address):
                yield Fault("advertise", f"must be an IP address, not a name, got {address!r}")
            elif not can_be_sent_to(address):
                yield Fault("advertise", f"must be an address of one machine, without a zone, got {address!r}")


class CallSettings(Section, frozen=True, kw_only=True):
    """How many calls there may be, how long they may be, and how much of a conversation is kept."""

    section: ClassVar[str] = "calls"
    title: ClassVar[str] = "calls: how many, how long, how large"

    max_calls: Annotated[int, setting(LIVE, "maximum number of calls at a time; further ones get 429", ge=1)] = 200
    max_calls_per_key: Annotated[
        Positive | None,
        setting(
            LIVE,
            "maximum number of calls, and of agents, per `ek_` key at a time; API keys are not limited; unset: a "
            "quarter of `max_calls`",
        ),
    ] = None
    reserved_calls: Annotated[
        Count | None,
        setting(
            LIVE,
            "how many of `max_calls` are reserved for API keys, so that `ek_` keys cannot take them all; unset: a "
            "tenth",
        ),
    ] = None
    max_loop_lag_ms: Annotated[
        float,
        setting(
            LIVE,
            "event loop lag, averaged over two seconds, above which new calls get 503, in milliseconds; 0: no limit",
            ge=0,
        ),
    ] = 100.0
    call_limit_s: Annotated[float, setting(NEW_CALLS, "maximum length of a call, in seconds", ge=1, le=604_800)] = (
        3600.0
    )
    resume_grace_s: Annotated[
        float,
        setting(
            NEW_CALLS, "how long a lost owner or peer may take to come back, in seconds; 0: it cannot", ge=0, le=3600
        ),
    ] = 30.0
    ended_calls: Annotated[
        int, setting(LIVE, "how many ended calls `GET /v1/calls?ended=1` lists; 0: none", ge=0, le=100_000)
    ] = 1000
    ended_calls_age_s: Annotated[
        float, setting(LIVE, "how long each of them is listed, in seconds", ge=1, le=604_800)
    ] = 86_400.0
    conversation_bytes: Annotated[
        int,
        setting(
            NEW_CALLS, "maximum number of bytes of text, sound and images that one conversation may keep", ge=65_536
        ),
    ] = 33_554_432
    conversation_bytes_per_key: Annotated[
        int, setting(NEW_CALLS, "maximum number of bytes that all conversations of one `ek_` key may keep", ge=65_536)
    ] = 67_108_864
    conversation_bytes_in_all: Annotated[
        int, setting(LIVE, "maximum number of bytes that all conversations of the process may keep", ge=65_536)
    ] = 536_870_912

    @property
    def calls_per_key(self) -> int:
        """``max_calls_per_key``; if that is unset, a quarter of all calls."""
        return max(1, self.max_calls // 4) if self.max_calls_per_key is None else self.max_calls_per_key

    @property
    def calls_in_reserve(self) -> int:
        """``reserved_calls``; if that is unset, a tenth of all calls."""
        return self.max_calls // 10 if self.reserved_calls is None else self.reserved_calls

    def faults(self, config: "Config") -> Iterator[Fault]:
        """Finds a reserve of more calls than there may be."""
        if self.calls_in_reserve > self.max_calls:
            reason = f"must be at most max_calls, which is {self.max_calls}, got {self.reserved_calls}"
            yield Fault("reserved_calls", reason)


class ListenerSettings(Section, frozen=True, kw_only=True):
    """The sockets that hear calls."""

    section: ClassVar[str] = "listeners"
    title: ClassVar[str] = "listeners: the sockets that hear calls"

    max_listeners_per_call: Annotated[
        int, setting(NEW_CALLS, "maximum number of sockets attached to one call", ge=0)
    ] = 1000
    max_listeners_per_key: Annotated[int, setting(LIVE, "maximum number of sockets attached with one key", ge=0)] = 2000
    listener_backlog_bytes: Annotated[
        int, setting(NEW_CALLS, "maximum number of bytes that wait for one slow listener", ge=4096)
    ] = 1_048_576
    listener_backlog_ms: Annotated[
        int, setting(NEW_CALLS, "maximum amount of sound that waits for one slow listener, in milliseconds", ge=100)
    ] = 5000
    replay_bytes: Annotated[
        int,
        setting(
            NEW_CALLS,
            "bytes of events, and as many bytes of sound, that are kept per call for listeners that reconnect",
            ge=0,
        ),
    ] = 1_048_576
    replay_s: Annotated[float, setting(NEW_CALLS, "how long that sound is kept, in seconds", ge=0, le=600)] = 10.0


class TelephonySettings(Section, frozen=True, kw_only=True):
    """The settings that all carriers have in common."""

    section: ClassVar[str] = "telephony"
    title: ClassVar[str] = "telephony: settings for all carriers"

    public_url: Annotated[
        Text | None,
        setting(LIVE, "`https://host` at which carriers reach the bridge; the URLs that they sign begin with it"),
    ] = None
    carrier_grace_s: Annotated[
        float,
        setting(NEW_CALLS, "how long a telephone call's lost connection may take to return, in seconds", ge=0, le=300),
    ] = 5.0
    carrier_parameters: Annotated[
        tuple[Literal["instructions", "voice", "model"], ...],
        setting(NEW_CALLS, "what a telephone call's parameters may set: `instructions`, `voice` or `model`"),
    ] = ()
    incoming_wait: Annotated[
        tuple[Text, ...],
        setting(
            NEW_CALLS,
            "name of a carrier (`*`: all) whose calls wait until the application answers the webhook "
            "`realtime.call.incoming` with `/accept`",
        ),
    ] = ()
    incoming_wait_s: Annotated[
        float,
        setting(NEW_CALLS, "how long such a call waits before it is hung up, in seconds", ge=1, le=300),
    ] = 20.0
    dtmf_items: Annotated[
        bool, setting(NEW_CALLS, "add the keys that a caller presses on a telephone to the conversation, as text")
    ] = False

    def has_to_wait(self, carrier: str) -> bool:
        """Returns whether a call of ``carrier`` is answered only after it was accepted."""
        return carrier in self.incoming_wait or EVERY_CARRIER in self.incoming_wait

    def faults(self, config: "Config") -> Iterator[Fault]:
        """Finds addresses that are none, and carriers that do not exist."""
        known = {carrier.section for carrier in config.carriers}
        for name in self.incoming_wait:
            if name != EVERY_CARRIER and name not in known:
                yield Fault("incoming_wait", f"must be * or one of {', '.join(sorted(known))}, got {name[:64]!r}")
        if self.public_url is not None and not _PUBLIC_URL.fullmatch(self.public_url):
            yield Fault("public_url", f"must be https://host, optionally with a path, got {masked(self.public_url)!r}")


class LogSettings(Section, frozen=True, kw_only=True):
    """The log on standard error."""

    section: ClassVar[str] = "log"
    title: ClassVar[str] = "log"

    log_format: Annotated[
        Literal["auto", "console", "json"],
        setting(RESTART, "`auto`: `console` on a terminal, `json` elsewhere"),
    ] = "auto"
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"],
        setting(LIVE, "minimum severity of the lines that are written", aliases={"warn": "warning"}),
    ] = "info"


ROOMS: tuple[type[Section], ...] = (
    ServerSettings,
    AccessSettings,
    MediaSettings,
    TurnSettings,
    CallSettings,
    ListenerSettings,
    ClusterSettings,
    UpstreamSettings,
    EngineSettings,
    RecordingSettings,
    TelephonySettings,
    ObserveSettings,
    LogSettings,
)
"""All sections but those of carriers, in the order of the help and the reference."""
