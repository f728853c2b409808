"""What a peer says by HTTP after its offer: ``PATCH`` with an SDP fragment or another offer (RFC 9725 section 4.3)."""

from starlette.requests import Request
from starlette.responses import Response

from bridge.api.body import read_body
from bridge.calls.conditions import IfMatch
from bridge.calls.handles import IceAnswer
from bridge.calls.service import MAX_FRAGMENT_BYTES
from bridge.errors import NotTheMediaType

__all__ = [
    "ACCEPT_PATCH",
    "ETAG",
    "FRAGMENT",
    "ICE_HEADERS",
    "SDP",
    "condition_of",
    "ice_answer",
    "media_type",
    "read_fragment",
    "tagged",
]

SDP, FRAGMENT = "application/sdp", "application/trickle-ice-sdpfrag"
ETAG = "ETag"
"""The header that names the ICE session."""
ACCEPT_PATCH = "Accept-Patch"
"""The header that says with which bodies a session is patched (RFC 5789 section 3.1)."""
ICE_HEADERS = {
    ETAG: "The ETag of the ICE session, which a fragment names in `If-Match`.",
    ACCEPT_PATCH: "The media types that the session accepts in `PATCH`.",
}
"""Both headers, with their meaning."""


def media_type(request: Request) -> str:
    """Returns the media type of the request's body, in lower case and without parameters."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def condition_of(request: Request) -> IfMatch:
    """Returns which ICE session a fragment is about; raises ``NoCondition`` if the request does not say."""
    return IfMatch.parse(request.headers.get("if-match"))


async def read_fragment(request: Request, *, others: str = "") -> bytes:
    """Returns the fragment; raises ``NotTheMediaType`` if the body is something else.

    ``others`` are the types that are taken besides.
    """
    if media_type(request) != FRAGMENT:
        raise NotTheMediaType(f"Send the change as Content-Type: {FRAGMENT}{others}.", param="Content-Type")
    return await read_body(request, MAX_FRAGMENT_BYTES)


def ice_answer(answer: IceAnswer | None) -> Response:
    """Returns 204 for candidates, without a tag; for an ICE restart our fragment with the new tag."""
    if answer is None:
        return Response(status_code=204)
    return Response(answer.fragment, media_type=FRAGMENT, headers={ETAG: tagged(answer.tag)})


def tagged(tag: str) -> str:
    """Returns a strong entity-tag (RFC 9110 section 8.8.3)."""
    return f'"{tag}"'
