"""The parts of several carriers' sign-ins: where a secret stands in a request, and whether it is the right one."""

import base64
import binascii
import hmac
from collections.abc import Iterable, Mapping

from bridge.errors import Forbidden

__all__ = ["TELEPHONES_KEYS", "basic_password", "bearer", "counted", "is_one_of", "require_secrets"]

TELEPHONES_KEYS = "telephones' keys"
"""What the log says if a token is compared with the single-use keys that were minted for telephone calls."""


def is_one_of(given: str, secrets: Iterable[str]) -> bool:
    """Returns whether ``given`` is one of the secrets, in a time that does not tell how close it is."""
    presented = given.encode("utf-8", "surrogatepass")
    matches = [hmac.compare_digest(presented, secret.encode()) for secret in secrets]
    return any(matches)


def require_secrets(setting: str, secrets: tuple[str, ...]) -> tuple[str, ...]:
    """Returns the secrets that open an endpoint; raises ``Forbidden`` if there are none: ``setting`` is not set."""
    if not secrets:
        raise Forbidden(f"This endpoint is closed: {setting} is not set.", code="endpoint_closed")
    return secrets


def counted(setting: str, secrets: tuple[str, ...]) -> str:
    """Returns what a secret was compared with, for the log: ``setting (2 values)``."""
    return f"{setting} ({len(secrets)} {'value' if len(secrets) == 1 else 'values'})"


def bearer(headers: Mapping[str, str]) -> str | None:
    """Returns the token of ``Authorization: Bearer`` (RFC 6750 section 2.1); None if there is none."""
    scheme, _, token = headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else None


def basic_password(headers: Mapping[str, str]) -> str | None:
    """Returns the password of HTTP Basic authentication (RFC 7617), whoever the user is.

    Returns None if there is none, and an empty text if it cannot be read.
    """
    scheme, _, encoded = headers.get("authorization", "").partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        return base64.b64decode(encoded.strip(), validate=True).decode().partition(":")[2]
    except (binascii.Error, UnicodeError, ValueError):
        return ""
