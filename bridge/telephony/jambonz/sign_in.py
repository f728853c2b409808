"""Checks jambonz' signature of a webhook: hex HMAC-SHA256 of the time and the body, as ``t=…,v1=…``."""

import hmac
from collections.abc import Iterable

__all__ = ["is_signed", "signed_at"]

_MAX_AGE_S = 300
_MAX_SIGNATURES = 8


def is_signed(secrets: Iterable[str], header: str, body: bytes, *, now: float) -> bool:
    """Returns whether one ``v1`` of the header is the signature of the body, made at most 5 minutes ago."""
    parts = _parts(header)
    at = signed_at(header)
    if not (at.isascii() and at.isdigit() and len(at) <= 12) or abs(now - int(at)) > _MAX_AGE_S:
        return False
    shown = [value.encode("utf-8", "surrogatepass") for name, _, value in parts if name == "v1"]
    expected = [hmac.digest(key.encode(), at.encode() + b"." + body, "sha256").hex().encode() for key in secrets]
    matches = [hmac.compare_digest(given, known) for given in shown for known in expected]
    return any(matches)


def signed_at(header: str) -> str:
    """Returns the time that was signed, as the header has it. Together with the body it identifies the request."""
    return next((value for name, _, value in _parts(header) if name == "t"), "")


def _parts(header: str) -> list[tuple[str, str, str]]:
    return [part.strip().partition("=") for part in header.split(",")[: _MAX_SIGNATURES + 1]]
