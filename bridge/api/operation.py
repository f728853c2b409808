"""One operation of the HTTP API, as ``/openapi.json`` describes it."""

from dataclasses import dataclass, field
from typing import Any

from msgspec import Struct

__all__ = ["LOCATION", "Operation"]

LOCATION = {"Location": "The call: `/v1/realtime/calls/rtc_…`. The last segment is the call's ID."}
"""The header of an answer that says which call was made."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """A method of a path. A body is a type, or the name of a media type that carries text."""

    method: str
    """The method in lower case, as OpenAPI has it."""
    path: str
    summary: str
    request: Any = None
    other_request: str | None = None
    """A media type that may be sent instead."""
    takes_form: bool = False
    """Whether the SDP may come in a form as well, beside a session."""
    status: int = 200
    response: Any = None
    query: type[Struct] | None = None
    headers: dict[str, str] = field(default_factory=dict)
    """The headers of the response, with their meaning."""
    is_public: bool = False
    """Whether no key is asked for."""
