"""Which session of which Live service belongs to a call, also when the call is over: for forks and stored content."""

from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from bridge.errors import UnknownCall, UpstreamError
from bridge.outgoing import HTTPError, new_client, refusal
from bridge.upstream.target import Target

__all__ = ["Content", "LiveSessions", "ServiceSession"]

_MAX_KNOWN = 10_000
_RELAYED = ("content-type", "content-length", "content-range", "accept-ranges", "content-disposition", "etag")
_TIMEOUT_S = 30.0
_MAX_REFUSAL_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class ServiceSession:
    """A session of a Live service."""

    target: Target
    session_id: str
    """Its id there."""
    model: str
    """The model of the call, as clients call it."""
    key_id: str
    """The id of the key that opened the call."""


@dataclass(frozen=True, slots=True)
class Content:
    """A stored recording as the service gives it: the whole, or the range that was asked for."""

    status: int
    headers: dict[str, str]
    chunks: AsyncIterator[bytes]


class LiveSessions:
    """The sessions of this process's Live calls, by the ids that clients know. The newest 10,000 are kept."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, ServiceSession] = OrderedDict()

    def add(self, our_id: str, session: ServiceSession) -> None:
        """Notes the service's session of a call; a fork of it takes its place."""
        self._known[our_id] = session
        self._known.move_to_end(our_id)
        if len(self._known) > _MAX_KNOWN:
            self._known.popitem(last=False)

    def find(self, our_id: str) -> ServiceSession:
        """Returns the session; raises ``UnknownCall`` if none is known."""
        session = self._known.get(our_id)
        if session is None:
            raise UnknownCall(
                f"No Live session with the ID '{our_id[:64]}' is known.", code="session_not_stored", param="session_id"
            )
        return session

    @asynccontextmanager
    async def content(self, our_id: str, *, range_header: str | None = None) -> AsyncIterator[Content]:
        """Yields the recording of a stored session, which may be read while the block lasts.

        ``range_header`` is passed on. Raises ``UnknownCall``, and ``UpstreamError`` in the service's words if it
        refuses.
        """
        session = self.find(our_id)
        headers = {**session.target.headers, "Accept": "application/binary", "Accept-Encoding": "identity"}
        if range_header is not None:
            headers["Range"] = range_header
        address = session.target.live_address(session.session_id, "content", is_http=True)
        try:
            async with new_client(_TIMEOUT_S) as http, http.stream("GET", address, headers=headers) as response:
                if response.status_code not in (200, 206):
                    said = b""
                    async for chunk in response.aiter_bytes():
                        said = (said + chunk)[:_MAX_REFUSAL_BYTES]
                        if len(said) == _MAX_REFUSAL_BYTES:
                            break
                    raise refusal(response.status_code, said, response.headers.get("Retry-After"))
                kept = {name: response.headers[name] for name in _RELAYED if name in response.headers}
                yield Content(response.status_code, kept, response.aiter_raw())
        except HTTPError as error:
            reason = str(error) or type(error).__name__
            raise UpstreamError(f"The upstream cannot be reached: {reason}", code="upstream_lost") from error
