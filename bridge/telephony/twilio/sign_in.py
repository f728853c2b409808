"""Checks Twilio's signature of a request: an HMAC of its address and its parameters, in a header."""

import base64
import hashlib
import hmac
from collections.abc import Iterable, Mapping
from urllib.parse import parse_qsl, urlsplit, urlunsplit

__all__ = ["SETTINGS_HEADER", "SIGNATURE_HEADER", "is_signed", "sign"]

SIGNATURE_HEADER = "x-twilio-signature"
SETTINGS_HEADER = "x-twilio-webhooks-signature-settings"

_DIGESTS = {"HMAC_SHA1": hashlib.sha1, "HMAC_SHA256": hashlib.sha256}
_DEFAULT_ALGORITHM = "HMAC_SHA1"
_PORTS = {"wss": 443, "https": 443, "ws": 80, "http": 80}


def sign(secret: str, url: str, parameters: Mapping[str, str] | None = None, *, algorithm: str = "HMAC_SHA1") -> str:
    """Returns Twilio's signature of a request: of the URL, and of each parameter's name and value, sorted by name."""
    signed = url + "".join(f"{name}{value}" for name, value in sorted((parameters or {}).items()))
    return base64.b64encode(hmac.digest(secret.encode(), signed.encode(), _DIGESTS[algorithm])).decode()


def is_signed(
    secrets: Iterable[str], url: str, headers: Mapping[str, str], parameters: Mapping[str, str] | None = None
) -> bool:
    """Returns whether a secret has signed the request to ``url``.

    ``url`` is the address that the carrier was told, ``wss://`` for a stream. The port may be written out or not. A
    query may be signed as it stands or, as on streams, folded into the parameters. Nothing else may differ, not even a
    slash at the end.
    """
    signature = headers.get(SIGNATURE_HEADER, "")
    algorithm = _DEFAULT_ALGORITHM
    if settings := headers.get(SETTINGS_HEADER):
        algorithm = dict(part.strip().partition("=")[::2] for part in settings.split(",")).get("algorithm", "")
    if not signature or algorithm not in _DIGESTS:
        return False
    candidates = [
        sign(secret, spelling, given, algorithm=algorithm)
        for secret in secrets
        for spelling, given in _spellings(url, dict(parameters or {}))
    ]
    presented = signature.encode("utf-8", "surrogatepass")
    matches = [hmac.compare_digest(presented, candidate.encode()) for candidate in candidates]
    return any(matches)


def _spellings(url: str, parameters: dict[str, str]) -> Iterable[tuple[str, dict[str, str]]]:
    parts = urlsplit(url)
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname or ""
    default = _PORTS.get(parts.scheme)
    places = {parts.netloc}
    if parts.port in (None, default):
        places |= {host, f"{host}:{default}"}
    for place in sorted(places):
        yield urlunsplit(parts._replace(netloc=place)), parameters
        if parts.query:
            folded = {**parameters, **dict(parse_qsl(parts.query, keep_blank_values=True))}
            yield urlunsplit(parts._replace(netloc=place, query="")), folded
