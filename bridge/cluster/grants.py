"""Writes what a minted key opens as bytes that another process can read."""

from typing import Any

import msgspec
from msgspec import Struct

from bridge.calls.keys import Grant, KeyPurpose
from bridge.errors import BadEvent
from bridge.wire.sessions import SessionConfig, SessionRequest
from bridge.wire.stats import Dialect

__all__ = ["KeptRequest", "read_grant", "write_grant"]


class KeptRequest(Struct, frozen=True, omit_defaults=True):
    """A ``SessionRequest`` as it is kept; ``complaint`` is the message, code and field of its complaint."""

    config: SessionConfig
    body: dict[str, Any]
    complaint: tuple[str, str, str | None] | None = None

    @classmethod
    def of(cls, request: SessionRequest) -> "KeptRequest":
        """Returns the request as it is kept."""
        said = request.complaint
        return cls(request.config, request.body, None if said is None else (said.message, said.code, said.param))

    @property
    def request(self) -> SessionRequest:
        """The request as it was before it was kept."""
        complaint = None
        if self.complaint is not None:
            message, code, param = self.complaint
            complaint = BadEvent(message, code=code, param=param)
        return SessionRequest(self.config, self.body, complaint)


class _Kept(Struct, frozen=True, omit_defaults=True, kw_only=True):
    key_id: str
    purpose: KeyPurpose
    config: KeptRequest | None = None
    dialect: Dialect = Dialect.GA
    temperature: float | None = None
    metadata: dict[str, str] = {}
    call_id: str | None = None
    carrier_call_id: str | None = None
    only_returns: bool = False
    max_duration_s: float | None = None
    idle_timeout_s: float | None = None
    allowed_origins: tuple[str, ...] = ()
    is_single_use: bool = False


_decoder = msgspec.json.Decoder(_Kept)


def write_grant(grant: Grant) -> bytes:
    """Returns the grant as bytes, without the token, which whoever finds the key knows."""
    own = {name: getattr(grant, name) for name in _Kept.__struct_fields__ if name not in ("config", "metadata")}
    config = None if grant.config is None else KeptRequest.of(grant.config)
    return msgspec.json.encode(_Kept(**own, config=config, metadata=dict(grant.metadata)))


def read_grant(kept: bytes) -> Grant:
    """Returns the grant that ``write_grant`` has written."""
    read = _decoder.decode(kept)
    own = {name: getattr(read, name) for name in read.__struct_fields__ if name != "config"}
    return Grant(**own, config=None if read.config is None else read.config.request)
