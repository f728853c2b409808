"""The settings of who answers a call: the embedded engine, and the upstreams beside it.

A cascade is an engine whose language model, ears and voice are servers of its own.
"""

import os
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, Self

from msgspec import Meta, Struct
from msgspec.structs import replace

from bridge.config.fields import Applies, Count, Fault, Section, Text, setting
from bridge.config.words import masked

if TYPE_CHECKING:
    from bridge.config.config import Config

__all__ = ["EngineSettings", "NamedUpstream", "UpstreamSettings"]

NEW_CALLS, RESTART = Applies.NEW_CALLS, Applies.RESTART
_Temperature = Annotated[float, Meta(ge=0, le=2)]
_HTTP_URL = re.compile(r"https?://[^\s/@]+(/\S*)?")
_UPSTREAM_URL = re.compile(r"(wss?|https?)://[^\s/@]+(/\S*)?")

_OWN_UPSTREAMS = ("local", "agent")
_STAGES = ("llm_", "stt_", "tts_")


def _is_stage_url(name: str, url: str) -> bool:
    return bool((_UPSTREAM_URL if name.endswith("stt_url") else _HTTP_URL).fullmatch(url))


def _stage_form(name: str) -> str:
    """What a stage's URL has to be, for people."""
    return "http(s)://host/v1" + (" or ws(s)://host/v1/realtime" if name.endswith("stt_url") else "")


class EngineSettings(Section, frozen=True, kw_only=True):
    """The embedded engine."""

    section: ClassVar[str] = "engine"
    title: ClassVar[str] = "engine: the embedded engine"

    engine: Annotated[
        Literal["auto", "local", "parrot"],
        setting(
            RESTART,
            "which embedded engine: `local` hears and speaks, `parrot` repeats what it hears; `auto`: `local` if it "
            "is installed",
        ),
    ] = "auto"
    engine_seed: Annotated[
        Count | None,
        setting(RESTART, "makes the local engine deterministic: the same input gives the same answer, bit for bit"),
    ] = None
    engine_whisper: Annotated[
        Text | None, setting(RESTART, "folder of another Whisper model for the local engine, in CTranslate2 format")
    ] = None
    engine_voice: Annotated[
        Text | None,
        setting(RESTART, "ONNX file of another hibari voice for the local engine, such as `bf_emma.int8.onnx`"),
    ] = None
    engine_llm_url: Annotated[
        Text | None,
        setting(
            RESTART,
            "language model for the engine: base URL of a chat completions server, such as "
            "`http://127.0.0.1:11434/v1`; unset: the engine's own rules",
        ),
    ] = None
    engine_llm_path: Annotated[
        Text | None,
        setting(
            RESTART,
            "language model without a server: path of a GGUF file that llama.cpp runs on this machine "
            "(needs the extra `llm`)",
        ),
    ] = None
    engine_llm_key: Annotated[Text | None, setting(RESTART, "key for `engine_llm_url`", is_secret=True)] = None
    engine_llm_model: Annotated[
        Text | None, setting(RESTART, "name of the model at that server; unset: the model that the client names")
    ] = None
    engine_llm_temperature: Annotated[
        _Temperature | None,
        setting(RESTART, "sampling temperature of the language model, 0 to 2; unset: its server's default"),
    ] = None
    engine_stt_url: Annotated[
        Text | None,
        setting(
            RESTART,
            "speech recognition for the engine: base URL of a server with `/audio/transcriptions`, or "
            "`ws(s)://…/v1/realtime` of a service with transcription sessions; unset: the engine's own model",
        ),
    ] = None
    engine_stt_key: Annotated[Text | None, setting(RESTART, "key for `engine_stt_url`", is_secret=True)] = None
    engine_stt_model: Annotated[Text, setting(RESTART, "name of the model at that server")] = "whisper-1"
    engine_tts_url: Annotated[
        Text | None,
        setting(
            RESTART,
            "speech synthesis for the engine: base URL of a server with `/audio/speech`; unset: the engine's own voice",
        ),
    ] = None
    engine_tts_key: Annotated[Text | None, setting(RESTART, "key for `engine_tts_url`", is_secret=True)] = None
    engine_tts_model: Annotated[Text, setting(RESTART, "name of the model at that server")] = "tts-1"
    engine_tts_voice: Annotated[
        Text | None, setting(RESTART, "voice at that server; unset: the voice that the session names")
    ] = None
    engine_echo_guard: Annotated[
        bool,
        setting(
            RESTART,
            "keep an answer from interrupting itself through the caller's microphone; real interruptions take effect "
            "half a second later",
        ),
    ] = False
    engine_backchannels: Annotated[
        tuple[Text, ...],
        setting(RESTART, "word that does not interrupt an answer, such as `mhm`; needs speech recognition"),
    ] = ()
    engine_turn_model: Annotated[
        Text | None,
        setting(
            RESTART,
            "ONNX file, in the form of Smart Turn 3, that judges for `semantic_vad` whether a turn is complete; "
            "unset: the words are judged instead",
        ),
    ] = None
    engine_timeout_s: Annotated[
        float,
        setting(
            RESTART,
            "silence after which a server that works for the engine is considered lost, in seconds",
            ge=0.1,
            le=600,
        ),
    ] = 30.0

    def faults(self, config: "Config") -> Iterator[Fault]:
        """Finds servers that the engine could not ask."""
        for name in ("engine_llm_url", "engine_stt_url", "engine_tts_url"):
            url = getattr(self, name)
            if url is not None and not _is_stage_url(name, url):
                yield Fault(name, f"must be {_stage_form(name)}, got {masked(url)[:100]!r}")
        if self.engine_llm_url is not None and self.engine_llm_path is not None:
            yield Fault("engine_llm_path", "an engine has one language model: set either engine_llm_url or this")
        thinks = self.engine_llm_url is not None or self.engine_llm_path is not None
        has_one = (self.engine_stt_url is None) != (self.engine_tts_url is None)
        if has_one and not thinks and self.engine == "parrot":
            name = "engine_stt_url" if self.engine_tts_url is None else "engine_tts_url"
            yield Fault(name, "the parrot neither hears nor speaks: set both URLs, or add engine_llm_url")


class NamedUpstream(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One table ``[upstreams.NAME]`` of the file: a service, or a cascade with servers of its own."""

    kind: Literal["realtime", "live", "cascade"] = "realtime"
    """``realtime``, ``live``: a service at ``url`` that speaks this protocol. ``cascade``: an engine with the servers
    ``llm_…``, ``stt_…``, ``tts_…``.
    """
    url: str = ""
    key: Text | None = None
    key_env: Text | None = None
    """The environment variable that holds the key."""
    profile: Text = "openai"
    model: Text | None = None
    """The model's name there; if it is unset, the name that the client uses."""
    models: tuple[Text, ...] = ()
    """The models of the calls that go here."""
    live_compat: bool = False
    """Whether Realtime clients may call it although it speaks Live."""
    live_backend_model: Text | None = None
    """The backend model of Realtime clients' and telephones' sessions on it, which calls their functions."""
    llm_url: Text | None = None
    llm_path: Text | None = None
    llm_key: Text | None = None
    llm_key_env: Text | None = None
    llm_model: Text | None = None
    llm_temperature: _Temperature | None = None
    stt_url: Text | None = None
    stt_key: Text | None = None
    stt_key_env: Text | None = None
    stt_model: Text | None = None
    tts_url: Text | None = None
    tts_key: Text | None = None
    tts_key_env: Text | None = None
    tts_model: Text | None = None
    tts_voice: Text | None = None

    def __repr__(self) -> str:
        """Returns what it is and where; no key."""
        return f"NamedUpstream(kind={self.kind!r}, url={self.url!r}, profile={self.profile!r}, models={self.models!r})"

    def stages(self, engine: EngineSettings) -> EngineSettings:
        """Returns the engine's settings of a cascade: its own servers, and ``engine`` for all that is no server's."""
        own = {name: getattr(self, name) for name in self.__struct_fields__ if name.startswith(_STAGES)}
        for stage in _STAGES:
            variable = own.pop(f"{stage}key_env")
            if variable is not None:
                own[f"{stage}key"] = os.environ.get(variable)
        usual = EngineSettings()
        changes = {f"engine_{name}": value for name, value in own.items()}
        for name, value in changes.items():
            if value is None:
                changes[name] = getattr(usual, name)
        return replace(engine, **changes)

    def faults(self) -> Iterator[str]:
        """Yields what is wrong with the table by itself, each beginning with the name of a field."""
        usual = NamedUpstream(kind=self.kind)
        given = {name for name in self.__struct_fields__ if getattr(self, name) != getattr(usual, name)}
        of_service = {"url", "key", "key_env", "profile", "model"}
        of_stages = {name for name in given if name.startswith(_STAGES)}
        of_live = {name for name in given if name.startswith("live_")}
        foreign = (given & of_service if self.kind == "cascade" else of_stages) | (
            set() if self.kind == "live" else of_live
        )
        for name in sorted(foreign):
            yield f"{name} is not for kind = {self.kind!r}"
        for name in sorted(given):
            value = getattr(self, name)
            if name.endswith("key_env") and not os.environ.get(value):
                yield f"{name} names {value}, which is not in the environment"
            elif name.endswith("_url") and not _is_stage_url(name, value):
                yield f"{name} must be {_stage_form(name)}, got {masked(value)[:100]!r}"
        if self.kind == "cascade":
            if not (self.llm_path or any(getattr(self, f"{stage}url") for stage in _STAGES)):
                yield "kind = 'cascade' needs llm_url, llm_path, stt_url or tts_url"
            if self.llm_url and self.llm_path:
                yield "llm_path: a cascade has one language model: set either llm_url or this"
        elif not self.url:
            yield "url is missing"
        elif self.url not in _OWN_UPSTREAMS and not _UPSTREAM_URL.fullmatch(self.url):
            yield f"url must be a URL (ws, wss, http, https), got {masked(self.url)[:100]!r}"
        elif self.url in _OWN_UPSTREAMS and self.kind == "live":
            yield f"url: {self.url} does not speak Live; leave out kind = 'live'"


class UpstreamSettings(Section, frozen=True, kw_only=True):
    """The settings of who answers calls."""

    section: ClassVar[str] = "upstream"
    title: ClassVar[str] = "upstream: who answers calls"

    upstream: Annotated[
        Text,
        setting(
            NEW_CALLS,
            "who answers calls: `local` (the embedded engine), `agent` (a WebSocket client that attaches as one), "
            "`ws(s)://…/v1/realtime`, `http(s)://…/v1/realtime/calls` (over WebRTC), or the name of one of `upstreams`",
        ),
    ] = "local"
    upstream_key: Annotated[Text | None, setting(NEW_CALLS, "key for `upstream`", is_secret=True)] = None
    upstream_profile: Annotated[
        Text,
        setting(
            NEW_CALLS, "profile of `upstream`, for what differs from service to service: see the guide on upstreams"
        ),
    ] = "openai"
    default_model: Annotated[
        Text,
        setting(NEW_CALLS, "model for calls that name none; unless this is set, a profile's own default comes first"),
    ] = "gpt-realtime-2.1"
    upstream_fallback: Annotated[
        tuple[Text, ...], setting(NEW_CALLS, "who answers if `upstream` does not; tried in this order")
    ] = ()
    upstreams: Annotated[
        dict[Text, NamedUpstream],
        setting(
            NEW_CALLS,
            "further upstreams, in the file only: `url`, `key` or `key_env`, `profile`, `model`, `models`; "
            '`kind = "cascade"` is an engine of its own: `llm_`, `stt_`, `tts_` with `url`, `key` or `key_env`, '
            '`model`, plus `llm_temperature`, `tts_voice`; `kind = "live"` is a Live service: also `live_compat`, '
            "`live_backend_model`",
        ),
    ] = {}
    upstream_connect_timeout_s: Annotated[
        float, setting(NEW_CALLS, "how long an upstream may take to answer a connection, in seconds", ge=0.1, le=300)
    ] = 10.0
    upstream_stall_s: Annotated[
        float,
        setting(
            NEW_CALLS,
            "silence after which an upstream that owes an answer is dialled again, in seconds",
            ge=0.1,
            le=600,
        ),
    ] = 15.0
    upstream_renew_s: Annotated[
        float,
        setting(
            NEW_CALLS,
            "age at which a connection to an upstream is replaced, before the service ends the session, in seconds",
            ge=1,
            le=604_800,
        ),
    ] = 3300.0
    upstream_tries: Annotated[
        int, setting(NEW_CALLS, "number of attempts per upstream, with backoff", ge=1, le=100)
    ] = 3
    agent_wait_s: Annotated[
        float, setting(NEW_CALLS, "how long an agent may take to attach to a call, in seconds", ge=0, le=3600)
    ] = 10.0
    upstream_ice_server: Annotated[
        tuple[Text, ...],
        setting(
            NEW_CALLS,
            "ICE server for upstreams over WebRTC: `stun:HOST:PORT`, or `turn:USER:PASSWORD@HOST:PORT`, optionally "
            "with `?transport=tcp`; `turns:` for TURN over TLS",
            is_secret=True,
        ),
    ] = ()

    @property
    def uses_local(self) -> bool:
        """Whether the embedded engine answers some calls by the engine's own settings."""
        return "local" in (self.upstream, *self.upstream_fallback, *(given.url for given in self.upstreams.values()))

    @property
    def cascades(self) -> dict[str, NamedUpstream]:
        """The upstreams that are cascades, by name."""
        return {name: given for name, given in self.upstreams.items() if given.kind == "cascade"}

    def fixed_against(self, new: Self) -> set[str]:
        """Returns ``upstreams`` if a cascade differs: its servers are opened at the start."""
        return {"upstreams"} if self.cascades != new.cascades else set()

    def faults(self, config: "Config") -> Iterator[Fault]:
        """Finds upstreams that cannot be dialled, that would never be called, or whose key is missing."""
        names = (*_OWN_UPSTREAMS, *self.upstreams)
        for name, given in (("upstream", (self.upstream,)), ("upstream_fallback", self.upstream_fallback)):
            for one in given:
                if one not in names and not _UPSTREAM_URL.fullmatch(one):
                    reason = f"must be {', '.join(names)} or a URL (ws, wss, http, https), got {masked(one)[:100]!r}"
                    yield Fault(name, reason)
        owners: dict[str, str] = {}
        for name, table in self.upstreams.items():
            if name in _OWN_UPSTREAMS:
                yield Fault("upstreams", f"{name} is reserved; choose another name")
            for model in table.models:
                if owners.setdefault(model, name) != name:
                    reason = f"{name}.models: calls for {model[:100]} already go to {owners[model]}"
                    yield Fault("upstreams", reason)
            yield from (Fault("upstreams", f"{name}.{reason}") for reason in table.faults())
