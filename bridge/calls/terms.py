"""What a new call starts with, and what it may do: from its key and its request."""

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field

import msgspec

from bridge.calls.keys import API_KEY_ID
from bridge.context import TraceContext
from bridge.wire.server_events import Body
from bridge.wire.sessions import (
    SessionConfig,
    SessionRequest,
    default_session,
    default_transcription,
    default_translation,
    merged,
)
from bridge.wire.stats import CallWarning, Dialect

__all__ = ["Terms"]

_DEFAULTS = {"transcription": default_transcription, "translation": default_translation}


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What a new call starts with, and what it may do."""

    model: str | None = None
    config: SessionRequest | None = None
    """The whole session that a key stands for, and what of it was asked for; None if the key stands for none."""
    update: SessionRequest | None = None
    """What the request asks for, laid over the default."""
    dialect: Dialect = Dialect.GA
    """The dialect of whoever is the call."""
    temperature: float | None = None
    key_id: str = API_KEY_ID
    token: str = field(default="", repr=False)
    """The token of the key that is used up by opening the call, as in ``Grant.token``."""
    max_duration_s: float | None = None
    idle_timeout_s: float | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    """The values that the caller's side gave the call on its way, or the application in a beta session.

    Whoever lists the call sees them.
    """
    live: Body | None = None
    """The session as a Live client asked for it, as it was written; None if the request is no Live client's."""
    live_fork: str | None = None
    """The id of the stored Live session that the client asks to fork."""
    warnings: tuple[CallWarning, ...] = ()
    """The parts of the request that could not be used, for whoever lists the call."""
    dtmf_items: bool = False
    """Whether keys that the caller presses are written into the conversation."""
    caller: str = ""
    """The ``host:port`` from which the call is asked for."""
    trace: TraceContext | None = None
    """The place in a trace of the request that asks for the call."""
    carrier_ids: Mapping[str, str] = field(default_factory=dict)
    """The carrier's own ids for the call."""
    secrets: tuple[str, ...] = field(default=(), repr=False)
    """The values of ``metadata`` that are a key to something."""
    carrier_call: str = ""
    """The carrier's own id of a telephone call, if it is proved."""
    token_digests: tuple[str, ...] = field(default=(), repr=False)
    """The digests of the tokens with which a carrier may connect the call again."""

    @property
    def wanted(self) -> SessionRequest:
        """Everything that was asked for."""
        asked = [request for request in (self.config, self.update) if request is not None]
        return functools.reduce(SessionRequest.with_update, asked, SessionRequest(SessionConfig(), {}))

    def session(self, session_id: str, expires_at: int, default_model: str) -> SessionConfig:
        """Returns the whole configuration of the session ``session_id``."""
        wanted = self.wanted.config
        new = _DEFAULTS.get(str(wanted.type), default_session)
        whole = new(session_id=session_id, model=self.model or default_model, expires_at=expires_at)
        return msgspec.structs.replace(merged(whole, wanted), id=session_id, expires_at=expires_at)

    @property
    def is_translation(self) -> bool:
        """Whether the session translates."""
        return self.wanted.config.type == "translation"

    @property
    def names_model(self) -> bool:
        """Whether the request or the key says which model is to answer."""
        return self.model is not None or "model" in self.wanted.body
