"""Every way in which the bridge says no.

    BridgeError                  type, code, http_status, close_code, retryable
    ├─ ConfigError               the start is refused; the message names the key and where it came from
    ├─ RequestError              the caller's doing, answered in the protocol's own form
    │  ├─ BadOffer               400: not an offer that a call can be made of
    │  ├─ BadRequest             400: a query, header or body that does not fit
    │  ├─ Unauthorized           401
    │  ├─ Forbidden              403: the key is known, but does not allow this
    │  ├─ UnknownCall            404
    │  ├─ UnknownModel           404
    │  ├─ NotAcceptable          406: the answer is of a kind that the client does not take
    │  ├─ ResumeGap              410: the event behind which a listener wants to go on is no longer kept
    │  ├─ NotTheState            412: what the request is about has changed since (If-Match)
    │  ├─ NotTheMediaType        415: the body is of a kind that is not taken here
    │  ├─ NoCondition            428: the request has to say which state it is about (If-Match)
    │  ├─ NotImplementedHere      501: the protocol has it, and this server does not
    │  ├─ BadEvent               one client event; answered by an ``error`` event, the session lives on
    │  └─ OverLimit              429
    ├─ Draining                  503: the daemon is about to stop, and takes no new calls
    ├─ Overloaded                503: the daemon takes no new calls for now
    ├─ CannotCheck               503: what must be looked up is kept elsewhere, and cannot be reached now
    ├─ PeerError                 the WebRTC side of one call
    │  ├─ PeerNotConnected       the offer's peer never came
    │  └─ PeerLost               the peer came, and went silent
    ├─ MediaError                it is counted and concealed, and never ends a call
    └─ UpstreamError             the answering side of one call; ``is_transient`` if trying again may help

An error has a ``message``, and a ``param`` if one field is to blame. ``error_body`` is the one place that turns an
error into OpenAI's error object.
"""

from typing import Any, ClassVar

__all__ = [
    "REFUSED_CODE",
    "BadEvent",
    "BadOffer",
    "BadRequest",
    "BridgeError",
    "CannotCheck",
    "ConfigError",
    "Draining",
    "Forbidden",
    "MediaError",
    "NoCondition",
    "NotAcceptable",
    "NotImplementedHere",
    "NotTheMediaType",
    "NotTheState",
    "OverLimit",
    "Overloaded",
    "PeerError",
    "PeerLost",
    "PeerNotConnected",
    "RequestError",
    "ResumeGap",
    "Unauthorized",
    "UnknownCall",
    "UnknownModel",
    "UpstreamError",
    "error_body",
]


_RETRY_AFTER_S = "5"

REFUSED_CODE = "bridge.refused_code"
"""The name in an ASGI scope that holds the code of the error which answers a request; it is there for counting."""


class BridgeError(Exception):
    """The base of all errors of the bridge; ``code`` is a slug of the Realtime protocol if that has one."""

    type: str = "server_error"
    code: str = "internal_error"
    http_status: ClassVar[int] = 500
    close_code: ClassVar[int] = 1011
    retryable: ClassVar[bool] = False

    def __init__(self, message: str, *, code: str | None = None, param: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        if code is not None:
            self.code = code

    @property
    def headers(self) -> dict[str, str]:
        """Headers for the HTTP response."""
        return {"Retry-After": _RETRY_AFTER_S} if self.retryable else {}


class ConfigError(BridgeError):
    """A setting with which the daemon does not start, or which a reload refuses; ``param`` names it."""

    code = "invalid_config"

    def __init__(self, message: str, *, param: str) -> None:
        super().__init__(message, param=param)


class RequestError(BridgeError):
    """The request cannot be carried out."""

    type = "invalid_request_error"
    code = "invalid_request"
    http_status = 400
    close_code = 1008


class BadRequest(RequestError):
    """A query, header or body is not valid."""


class BadOffer(RequestError):
    """The SDP offer cannot be used for a call."""

    code = "invalid_offer"


class Unauthorized(RequestError):
    """The request has no key, or one that is not valid."""

    code = "invalid_api_key"
    http_status = 401

    @property
    def headers(self) -> dict[str, str]:
        """Headers that say how a key is shown (RFC 6750 section 3)."""
        return {"WWW-Authenticate": 'Bearer realm="bridge"'}


class Forbidden(RequestError):
    """The key is valid, but does not allow this."""

    code = "forbidden"
    http_status = 403


class UnknownCall(RequestError):
    """No call with this ID is running."""

    code = "call_id_not_found"
    http_status = 404


class UnknownModel(RequestError):
    """No upstream serves this model."""

    code = "model_not_found"
    http_status = 404


class ResumeGap(RequestError):
    """A listener reconnected too late: the events that it missed are no longer kept."""

    code = "resume_gap"
    http_status = 410


class NotAcceptable(RequestError):
    """The response has a media type that the client does not accept."""

    code = "not_acceptable"
    http_status = 406


class NotTheState(RequestError):
    """The state that the request names has changed, or is gone."""

    code = "precondition_failed"
    http_status = 412


class NotTheMediaType(RequestError):
    """The body has a media type that this endpoint does not accept."""

    code = "unsupported_media_type"
    http_status = 415


class NoCondition(RequestError):
    """The request must name the state that it is about."""

    code = "precondition_required"
    http_status = 428


class BadEvent(RequestError):
    """One client event cannot be carried out; the session continues."""

    code = "invalid_value"
    event_id: str | None = None
    """The id of the event, as its client has written it; None if it has none, or none was read."""

    def anew(self) -> "BadEvent":
        """Returns an equal error to raise or keep in place of this one.

        This one keeps the stack frames alive that it passed through.
        """
        error = BadEvent(self.message, code=self.code, param=self.param)
        error.event_id = self.event_id
        return error


class NotImplementedHere(RequestError):
    """The protocol has this, but this server does not implement it."""

    code = "not_implemented"
    http_status = 501


class OverLimit(RequestError):
    """The request exceeds a limit."""

    type = "rate_limit_error"
    code = "rate_limit_exceeded"
    http_status = 429
    close_code = 1013
    retryable = True


class Draining(BridgeError):
    """The daemon is about to stop and accepts nothing new."""

    code = "server_draining"
    http_status = 503
    close_code = 1012
    retryable = True


class Overloaded(BridgeError):
    """The daemon is too busy to accept anything new."""

    code = "server_overloaded"
    http_status = 503
    close_code = 1013
    retryable = True


class CannotCheck(BridgeError):
    """The request depends on something outside this process that cannot be reached now."""

    code = "cannot_check"
    http_status = 503
    close_code = 1013
    retryable = True


class PeerError(BridgeError):
    """The WebRTC side of one call failed."""

    code = "peer_failed"


class PeerNotConnected(PeerError):
    """An offer was answered, but no peer connected in time."""

    code = "peer_not_connected"


class PeerLost(PeerError):
    """A connected peer went silent."""

    code = "peer_lost"


class MediaError(BridgeError):
    """Sound cannot be decoded or encoded. The fault is counted and concealed, and never ends a call."""

    code = "media_error"


class UpstreamError(BridgeError):
    """The upstream failed; the message keeps the upstream's own words."""

    code = "upstream_error"
    http_status = 502
    close_code = 1014

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        type: str | None = None,
        is_transient: bool = True,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message, code=code, param=param)
        if type is not None:
            self.type = type
        self.is_transient = is_transient
        self.retry_after_s = retry_after_s


def error_body(error: BridgeError, *, event_id: str | None = None) -> dict[str, Any]:
    """Returns OpenAI's error object for ``error``; with ``event_id`` it has the form of the ``error`` event."""
    body: dict[str, Any] = {
        "type": error.type,
        "code": error.code,
        "message": error.message,
        "param": error.param,
    }
    if event_id is not None:
        body["event_id"] = event_id
    return body
