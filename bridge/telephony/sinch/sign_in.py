"""Checks Sinch's signature of a callback: HMAC-SHA256 of method, body's MD5, type, time and path."""

import base64
import binascii
import hmac
from collections.abc import Iterable
from datetime import datetime
from hashlib import md5

__all__ = ["is_signed", "sign"]

_MAX_AGE_S = 300.0


def sign(secret: str, method: str, path: str, body: bytes, *, content_type: str, timestamp: str) -> str:
    """Returns the signature of a request; raises ``ValueError`` if the secret is not base64."""
    digest = base64.b64encode(md5(body, usedforsecurity=False).digest()).decode()
    signed = f"{method}\n{digest}\n{content_type}\nx-timestamp:{timestamp}\n{path}"
    key = base64.b64decode(secret, validate=True)
    return base64.b64encode(hmac.digest(key, signed.encode("utf-8", "surrogatepass"), "sha256")).decode()


def is_signed(
    secrets: Iterable[str],
    header: str,
    method: str,
    path: str,
    body: bytes,
    *,
    content_type: str,
    timestamp: str,
    now: float,
) -> bool:
    """Returns whether ``Authorization: application KEY:SIGNATURE`` is that of the request, made within 5 minutes."""
    scheme, _, credentials = header.partition(" ")
    if scheme.lower() not in ("application", "service") or not _is_now(timestamp, now):
        return False
    shown = credentials.rpartition(":")[2].strip().encode("utf-8", "surrogatepass")
    try:
        known = [sign(one, method, path, body, content_type=content_type, timestamp=timestamp) for one in secrets]
    except binascii.Error:
        return False
    matches = [hmac.compare_digest(shown, one.encode()) for one in known]
    return any(matches)


def _is_now(timestamp: str, now: float) -> bool:
    try:
        at = datetime.fromisoformat(timestamp)
        return at.tzinfo is not None and abs(at.timestamp() - now) <= _MAX_AGE_S
    except (ValueError, OverflowError):
        return False
