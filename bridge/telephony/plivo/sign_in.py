"""Plivo's signature of a request, version 3: an HMAC over its address, its sorted parameters and a nonce."""

import base64
import hmac
from collections.abc import Iterable, Mapping
from urllib.parse import parse_qsl, urlsplit, urlunsplit

__all__ = ["is_signed_v3", "sign_v3"]

_MAX_SIGNATURES = 8


def sign_v3(secret: str, url: str, nonce: str, form: Mapping[str, str] | None = None, *, mark: str = "?") -> str:
    """The signature of a GET of ``url``, or with ``form`` of a POST.

    Between an address without a query and the fields of a form stands ``mark``: Plivo's SDK writes ``?``, its documents
    have ``.``.
    """
    parts = urlsplit(url)
    query = "&".join(f"{name}={value}" for name, value in sorted(parse_qsl(parts.query, keep_blank_values=True)))
    signed = urlunsplit(parts._replace(query=query))
    if form:
        fields = "".join(f"{name}{value}" for name, value in sorted(form.items()))
        signed += f".{fields}" if query else f"{mark}{fields}"
    digest = hmac.digest(secret.encode(), f"{signed}.{nonce}".encode(), "sha256")
    return base64.b64encode(digest).decode()


def is_signed_v3(
    secrets: Iterable[str], url: str, signatures: str, nonce: str, form: Mapping[str, str] | None = None
) -> bool:
    """Whether one of the signatures, which have commas between them, is that of the request to ``url``."""
    expected = [sign_v3(secret, url, nonce, form, mark=mark).encode() for secret in secrets for mark in "?."]
    shown = [given.strip().encode("utf-8", "surrogatepass") for given in signatures.split(",")[:_MAX_SIGNATURES]]
    matches = [hmac.compare_digest(given, known) for given in shown for known in expected]
    return bool(nonce) and any(matches)
