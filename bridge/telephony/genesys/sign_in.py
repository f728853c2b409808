"""Checks Genesys' signature of an upgrade: HTTP message signatures with HMAC-SHA256, as AudioHook has them."""

import base64
import binascii
import hmac
import re
from collections.abc import Iterable, Mapping

from bridge.errors import Forbidden

__all__ = ["base_of", "read_signature"]

_COMPONENTS = frozenset(
    {
        "@request-target",
        "@authority",
        "audiohook-organization-id",
        "audiohook-session-id",
        "audiohook-correlation-id",
        "x-api-key",
    }
)
_MAX_AGE_S = 10
_MIN_NONCE = 22
_MAX_CHARS = 4096
_INPUT = re.compile(r'(?P<label>[a-z*][a-z0-9_*.-]*)=(?P<params>\((?P<covered>("[^"]*"\s*)+)\)(?P<more>[^,]*))')
_PARAMETER = re.compile(r';([a-z]+)=("[^"]*"|\d+)')


def base_of(params: str, covered: Iterable[str], values: Mapping[str, str]) -> str:
    """Returns the text that is signed.

    It has each covered component with its value, and the parameters as they stand in the header.
    """
    lines = [f'"{name}": {values.get(name, "")}' for name in covered]
    return "\n".join([*lines, f'"@signature-params": {params}'])


def read_signature(
    secrets: Iterable[str], headers: Mapping[str, str], *, target: str, authority: str, now: float
) -> str:
    """Returns the nonce of a request that is signed with one of the secrets (in base64) just now.

    Raises ``Forbidden`` otherwise. ``target`` is the request's path with its query, ``authority`` the host by which
    Genesys calls it.
    """
    given, signatures = headers.get("signature-input", ""), headers.get("signature", "")
    if not given or not signatures:
        raise Forbidden("The request is not signed.", code="missing_signature")
    match = _INPUT.fullmatch(given) if len(given) <= _MAX_CHARS else None
    if match is None or len(signatures) > _MAX_CHARS:
        raise Forbidden("The signature's input cannot be read.", code="invalid_signature")
    covered = re.findall(r'"([^"]*)"', match["covered"])
    parameters: dict[str, str] = {name: value.strip('"') for name, value in _PARAMETER.findall(match["more"])}
    values = {**headers, "@request-target": target, "@authority": authority}
    signed = base_of(match["params"], covered, values).encode("utf-8", "surrogatepass")
    shown = re.fullmatch(rf"{re.escape(match['label'])}=:([A-Za-z0-9+/=]+):", signatures)
    matches = [hmac.compare_digest(_digest(secret, signed), _bytes_of(shown[1] if shown else "")) for secret in secrets]
    if not any(matches) or not _COMPONENTS <= set(covered) or parameters.get("alg", "hmac-sha256") != "hmac-sha256":
        raise Forbidden("The signature does not match this request and these secrets.", code="invalid_signature")
    if parameters.get("keyid") != headers.get("x-api-key") or len(parameters.get("nonce", "")) < _MIN_NONCE:
        raise Forbidden("The signature's key or nonce is wrong.", code="invalid_signature")
    created, expires = (int(parameters.get(name, "0")[:15] or 0) for name in ("created", "expires"))
    if abs(now - created) > _MAX_AGE_S or (expires and expires <= now):
        raise Forbidden("The signature is too old or too new; are the clocks right?", code="expired_signature")
    return parameters["nonce"]


def _digest(secret: str, signed: bytes) -> bytes:
    return hmac.digest(_bytes_of(secret) or secret.encode(), signed, "sha256")


def _bytes_of(encoded: str) -> bytes:
    try:
        return base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        return b""
