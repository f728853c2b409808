"""Where an upstream is and how to speak to it: an address, a key, and a profile of what is particular about it."""

import tomllib
from dataclasses import dataclass, field, replace
from enum import Enum
from importlib import resources
from typing import Annotated, Any, Literal
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

import msgspec
from msgspec import Meta, Struct

from bridge.errors import ConfigError
from bridge.wire.audio import PCM16, AudioFormat, pcm16_at
from bridge.wire.dialects.beta_upstream import client_to_beta, server_to_ga
from bridge.wire.server_events import Body
from bridge.wire.sessions import Format, format_of

__all__ = ["Profile", "Target", "ProfileTranslator", "Transport", "load_profile", "profile_names"]

_Rate = Annotated[int, Meta(ge=8000, le=48000)]


class Transport(Enum):
    """What a line runs over."""

    WEBSOCKET = "websocket"
    WEBRTC = "webrtc"
    LOCAL = "local"
    """The embedded engine, which needs no line."""
    AGENT = "agent"
    """Whoever attaches to the bridge and answers."""
    CASCADE = "cascade"
    """An embedded engine with servers of its own, by the target's name."""


_TRANSPORTS = {
    "ws": Transport.WEBSOCKET,
    "wss": Transport.WEBSOCKET,
    "http": Transport.WEBRTC,
    "https": Transport.WEBRTC,
}
"""By the scheme of the URL."""
_HTTP_SCHEMES = {"ws": "http", "wss": "https"}


class Profile(Struct, frozen=True, forbid_unknown_fields=True):
    """What is particular about a kind of server; each is a small TOML file in ``profiles``."""

    dialect: Literal["ga", "beta"] = "ga"
    key_header: Literal["authorization", "api-key"] = "authorization"
    model_parameter: str = "model"
    """The parameter of the URL's query that names the model; empty if the URL names none."""
    query: dict[str, str] = {}
    """Further parameters of the query."""
    formats: tuple[str, ...] = ("audio/pcm", "audio/pcmu", "audio/pcma")
    """The formats of GA that it takes and gives; if the session has another one, the bridge converts."""
    input_hz: _Rate = 24_000
    """The sampling rate of the PCM that it takes."""
    output_hz: _Rate = 24_000
    ignore: tuple[str, ...] = ()
    """Its events that are of no use to anyone."""
    session: dict[str, Any] = {}
    """Fields that are added to every ``session.update`` to it, unless clients set them."""
    default_model: str | None = None
    """The model of a call that names none."""
    translations: str = ""
    """What follows the path of the URL where the server translates; empty if it has no translations."""

    def encode(self, body: Body) -> Body:
        """A GA client event as the server takes it, less ``session``, which ``ProfileTranslator`` adds."""
        if body["type"] == "session.update" and isinstance(body.get("session"), dict):
            body = {**body, "session": self._session(body["session"])}
        return client_to_beta(body) if self.dialect == "beta" else body

    def decode(self, body: Body) -> list[Body]:
        """A server's event as GA has it: one, or two, or none."""
        if body["type"] in self.ignore:
            return []
        return server_to_ga(body) if self.dialect == "beta" else [body]

    def input_format(self, wanted: Any) -> AudioFormat:
        """The format that it takes if the session's input format is ``wanted``."""
        return self._format(wanted, self.input_hz)

    def output_format(self, wanted: Any) -> AudioFormat:
        """The format that it gives if the session's output format is ``wanted``."""
        return self._format(wanted, self.output_hz)

    def _format(self, wanted: Format, rate_hz: int) -> AudioFormat:
        audio_format = format_of(wanted)
        if audio_format is not PCM16 and audio_format.media_type in self.formats:
            return audio_format
        return PCM16 if rate_hz == PCM16.rate_hz else pcm16_at(rate_hz)

    def _session(self, session: Body) -> Body:
        """The configuration of an update, less the formats that the server does not take."""
        audio = session.get("audio")
        if not isinstance(audio, dict):
            return session
        kept = {}
        for side, settings in audio.items():
            if isinstance(settings, dict) and self._is_refused(settings.get("format")):
                settings = {**settings, "format": {"type": "audio/pcm", "rate": 24000}}
            kept[side] = settings
        return {**session, "audio": kept}

    def _is_refused(self, audio_format: Any) -> bool:
        return isinstance(audio_format, dict) and audio_format.get("type") not in self.formats


class ProfileTranslator:
    """Translates for a server on one connection; it remembers what clients have set of the profile's fields."""

    def __init__(self, profile: Profile) -> None:
        self._profile = profile
        self._besides = profile.session

    def encode(self, body: Body) -> Body:
        """A GA client event as the server takes it."""
        is_update = body["type"] == "session.update"
        body = self._profile.encode(body)
        session = body.get("session")
        if not is_update or not self._besides or not isinstance(session, dict):
            return body
        set_here = {name: session[name] for name in self._besides if name in session}
        self._besides = _over(self._besides, set_here)
        return {**body, "session": {**session, **self._besides}}

    def decode(self, body: Body) -> list[Body]:
        """A server's event as GA has it: one, or two, or none."""
        return self._profile.decode(body)


def _over(base: Body, update: Body) -> Body:
    """``base`` with every field of ``update``, objects field by field."""
    whole = {**base, **update}
    for name in base.keys() & update.keys():
        if isinstance(base[name], dict) and isinstance(update[name], dict):
            whole[name] = _over(base[name], update[name])
    return whole


@dataclass(frozen=True, slots=True)
class Target:
    """One upstream of the settings."""

    name: str
    url: str
    """``ws(s)://…`` or ``http(s)://…``; ``local`` is the embedded engine, ``cascade`` one with servers of its own,
    ``agent`` whoever attaches as one.
    """
    key: str | None = field(default=None, repr=False)
    profile: Profile = field(default_factory=Profile)
    model: str | None = None
    """The model's name there; None if it is the name that the client uses."""
    is_live: bool = False
    """Whether it speaks the Live protocol. Of its profile only ``key_header`` counts then."""
    live_compat: bool = False
    """Whether clients of the Realtime protocol may call it although it speaks Live."""
    live_backend_model: str | None = None
    """The backend model that works for Realtime clients and telephones on it; None if nobody does."""

    @property
    def transport(self) -> Transport:
        """The transport of a line to it; raises ``ValueError`` if the URL cannot be an upstream's."""
        return _TRANSPORTS.get(urlsplit(self.url).scheme) or Transport(self.url)

    @property
    def shown_url(self) -> str:
        """The URL for people and logs: without its user and its query, which may hold secrets."""
        parts = urlsplit(self.url)
        return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment=""))

    def address(self, model: str, *, is_transcription: bool = False) -> str:
        """The URL for a session with ``model``, or for one that only writes down what is said, which has no model.

        What the operator has written into the URL stands as it is; only parameters that it leaves out are added.
        """
        parts = urlsplit(self.url)
        wanted = dict(self.profile.query)
        if is_transcription:
            wanted["intent"] = "transcription"
        elif self.profile.model_parameter:
            wanted[self.profile.model_parameter] = self.model or model
        written = {name for name, _ in parse_qsl(parts.query, keep_blank_values=True)}
        added = urlencode({name: value for name, value in wanted.items() if name not in written})
        return urlunsplit(parts._replace(query="&".join(filter(None, (parts.query, added)))))

    def live_address(self, *path: str, is_http: bool = False) -> str:
        """The URL of its Live sessions, or of what ``path`` names under them; ``is_http`` if it is not for a line."""
        parts = urlsplit(self.url)
        whole = "/".join([parts.path.rstrip("/"), *(quote(segment, safe="") for segment in path)])
        scheme = _HTTP_SCHEMES.get(parts.scheme, parts.scheme) if is_http else parts.scheme
        return urlunsplit(parts._replace(scheme=scheme, path=whole))

    @property
    def translates(self) -> bool:
        """Whether it has translations that a line can be opened to."""
        return self.profile.translations != "" and self.transport is Transport.WEBSOCKET and not self.is_live

    def translation_address(self, model: str) -> str:
        """The URL for a translation with ``model``; its path is that of the URL and the profile's ``translations``."""
        parts = urlsplit(self.url)
        path = parts.path.rstrip("/")
        if not path.endswith(self.profile.translations):
            path += self.profile.translations
        return replace(self, url=urlunsplit(parts._replace(path=path))).address(model)

    @property
    def headers(self) -> dict[str, str]:
        """The headers of the request that opens a line."""
        if self.key is None:
            return {}
        if self.profile.key_header == "api-key":
            return {"api-key": self.key}
        return {"Authorization": f"Bearer {self.key}"}


def load_profile(name: str, setting: str = "upstream_profile") -> Profile:
    """The profile ``name``; raises ``ConfigError``, which names the ``setting``, where there is none."""
    profile = _PROFILES.get(name)
    if profile is None:
        names = ", ".join(sorted(_PROFILES))
        raise ConfigError(f"{setting}: must be one of {names}, got {name!r}", param=setting)
    return profile


def profile_names() -> list[str]:
    """The names of all profiles."""
    return sorted(_PROFILES)


def _read_profiles() -> dict[str, Profile]:
    folder = resources.files("bridge.upstream").joinpath("profiles")
    files = [entry for entry in folder.iterdir() if entry.name.endswith(".toml")]
    return {
        entry.name.removesuffix(".toml"): msgspec.convert(tomllib.loads(entry.read_text()), Profile) for entry in files
    }


# At import: the event loop must not wait for a file.
_PROFILES = _read_profiles()
