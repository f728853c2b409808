"""Checks Plivo's signature of a request, version 3: an HMAC of its address, its sorted parameters and a nonce."""

import base64
import hmac
from collections.abc import Iterable, Mapping
from urllib.parse import parse_qsl, urlsplit, urlunsplit

__all__ = ["sign_v3", "signed_v3"]

_MAX_SIGNATURES = 8


def sign_v3(secret: str, url: str, nonce: str, form: Mapping[str, str] | None = None, *, mark: str = "?") -> str:
    """Returns the signature of a GET of ``url``, or with ``form`` of a POST.

    ``mark`` stands between an address without a query and the fields of a form: Plivo's SDK writes ``?``, its documents
    have ``.``.
    """
    return _sign(secret, _text(url, nonce, form, mark=mark))


def signed_v3(
    secrets: Iterable[str], url: str, signatures: str, nonce: str, form: Mapping[str, str] | None = None
) -> str | None:
    """Returns what was signed, if one of the signatures is that of the request to ``url``.

    The signatures have commas between them. The returned text identifies the request, and is not good twice. The nonce
    alone does not identify it: only a dot stands between the last field and the nonce, and a field may have dots, so
    that the same text can be read in several ways.
    """
    known = [
        (text, _sign(secret, text))
        for mark in "?."
        for text in [_text(url, nonce, form, mark=mark)]
        for secret in secrets
    ]
    shown = [given.strip().encode("utf-8", "surrogatepass") for given in signatures.split(",")[:_MAX_SIGNATURES]]
    matches = [text for text, signature in known for given in shown if hmac.compare_digest(given, signature.encode())]
    return matches[0] if matches and nonce else None


def _text(url: str, nonce: str, form: Mapping[str, str] | None, *, mark: str) -> str:
    parts = urlsplit(url)
    query = "&".join(f"{name}={value}" for name, value in sorted(parse_qsl(parts.query, keep_blank_values=True)))
    text = urlunsplit(parts._replace(query=query))
    if form:
        fields = "".join(f"{name}{value}" for name, value in sorted(form.items()))
        text += f".{fields}" if query else f"{mark}{fields}"
    return f"{text}.{nonce}"


def _sign(secret: str, text: str) -> str:
    return base64.b64encode(hmac.digest(secret.encode(), text.encode("utf-8", "surrogatepass"), "sha256")).decode()
