"""JSON Web Tokens (RFC 7519) by which carriers sign.

HS256 uses a shared secret, RS256 a key of theirs or of ours.
"""

import base64
import binascii
import hmac
import json
from collections.abc import Callable, Iterable, Mapping
from hashlib import sha256
from typing import Any, TypeGuard

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey, RSAPublicNumbers
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from bridge.errors import Forbidden

__all__ = [
    "Replays",
    "Rs256Signer",
    "ends_at",
    "is_jwt",
    "key_id_of",
    "read_jwks",
    "read_jwt",
    "signed_hs256",
    "signed_rs256",
]

_MAX_CHARS = 8192
_MAX_AGE_S = 300.0
_MAX_REMEMBERED = 100_000

Verify = Callable[[Mapping[str, Any], bytes, bytes], bool]
"""Returns whether the signature of a token with this header and this signed part is right."""


def read_jwt(token: str, verify: Verify, *, now: float) -> dict[str, Any]:
    """Returns the claims of a token; raises ``Forbidden`` if its signature is wrong or its time is not now.

    ``iat`` and ``nbf`` may be 5 minutes off, and ``exp`` must not be over. Each counts if it is there, and one of
    ``iat`` and ``exp`` must be there.
    """
    try:
        if len(token) > _MAX_CHARS:
            raise ValueError
        head, body, signature = token.split(".")
        header, claims = (msgspec.json.decode(_decoded(part), type=dict[str, Any]) for part in (head, body))
        is_right = verify(header, f"{head}.{body}".encode(), _decoded(signature))
    except (ValueError, msgspec.DecodeError, RecursionError, UnicodeError):
        raise Forbidden("The token is not a JSON Web Token.", code="invalid_signature") from None
    if not is_right:
        raise Forbidden("The token is not signed with this secret.", code="invalid_signature")
    times = {name: claims[name] for name in ("iat", "nbf", "exp") if claims.get(name) is not None}
    is_in_time = all(isinstance(at, int | float) for at in times.values()) and not (
        times.get("iat", now) < now - _MAX_AGE_S
        or max(times.get("iat", now), times.get("nbf", now)) > now + _MAX_AGE_S
        or times.get("exp", now + 1) <= now
    )
    if not is_in_time or not times.keys() & {"iat", "exp"}:
        raise Forbidden("The token has expired or is not valid yet; are the clocks right?", code="expired_signature")
    return claims


def is_jwt(token: str | None) -> TypeGuard[str]:
    """Returns whether a token may be a JSON Web Token, and no telephone's key."""
    return token is not None and token.count(".") == 2


def ends_at(claims: Mapping[str, Any]) -> float:
    """Returns when a token that was read ends by itself; 0 if it does not say so."""
    return float(claims.get("exp") or 0.0)


def key_id_of(token: str) -> str:
    """Returns the ``kid`` of a token's header, without checking anything; empty if it has none."""
    try:
        header = msgspec.json.decode(_decoded(token[:_MAX_CHARS].split(".")[0]), type=dict[str, Any])
    except (ValueError, msgspec.DecodeError, RecursionError, UnicodeError):
        return ""
    return str(header.get("kid", ""))


def signed_hs256(secrets: Iterable[str]) -> Verify:
    """Makes a check that a token is signed with one of the secrets (RFC 7518 section 3.2)."""
    keys = tuple(secret.encode() for secret in secrets)

    def verify(header: Mapping[str, Any], signed: bytes, signature: bytes) -> bool:
        matches = [hmac.compare_digest(hmac.digest(key, signed, "sha256"), signature) for key in keys]
        return header.get("alg") == "HS256" and any(matches)

    return verify


def signed_rs256(keys: Mapping[str, RSAPublicKey]) -> Verify:
    """Makes a check that a token is signed with the key that its header's ``kid`` names (RFC 7518 section 3.3)."""

    def verify(header: Mapping[str, Any], signed: bytes, signature: bytes) -> bool:
        key = keys.get(str(header.get("kid")))
        if key is None or header.get("alg") != "RS256":
            return False
        try:
            key.verify(signature, signed, PKCS1v15(), SHA256())
        except InvalidSignature:
            return False
        return True

    return verify


def read_jwks(document: bytes) -> dict[str, RSAPublicKey]:
    """Returns the RSA keys of a key set (RFC 7517) by their ``kid``; raises ``ValueError`` if it is not a key set."""
    keys = {}
    try:
        for entry in msgspec.json.decode(document, type=dict[str, Any])["keys"]:
            if entry.get("kty") == "RSA":
                n, e = (int.from_bytes(_decoded(entry[name])) for name in ("n", "e"))
                keys[str(entry.get("kid"))] = RSAPublicNumbers(e, n).public_key()
    except (KeyError, TypeError, ValueError, AttributeError, msgspec.DecodeError, RecursionError) as error:
        raise ValueError(f"This is not a key set: {type(error).__name__}.") from None
    return keys


class Rs256Signer:
    """Signs tokens of ours with a private key in PEM, which is read at the first of them."""

    def __init__(self, private_key: str) -> None:
        self._pem = private_key
        self._key: RSAPrivateKey | None = None

    def sign(self, claims: Mapping[str, Any]) -> str:
        """Returns a token with these claims; raises ``ValueError`` or ``TypeError`` if there is no key to sign with."""
        if self._key is None:
            key = load_pem_private_key(self._pem.encode(), None)
            if not isinstance(key, RSAPrivateKey):
                raise ValueError("the key is not an RSA key")
            self._key = key
        parts = ({"alg": "RS256", "typ": "JWT"}, dict(claims))
        signed = ".".join(_encoded(json.dumps(part, separators=(",", ":")).encode()) for part in parts)
        return f"{signed}.{_encoded(self._key.sign(signed.encode(), PKCS1v15(), SHA256()))}"


class Replays:
    """Remembers what was shown once, for as long as it would be good, so that it is not taken again.

    It keeps only a hash of each text, whatever the text is.
    """

    def __init__(self, *, keep_s: float = 3600.0) -> None:
        self._keep_s = keep_s
        self._shown: dict[bytes, tuple[float, bytes]] = {}
        """Until when each hash is kept, and a hash of the call that it was shown for."""

    def require_new(
        self, shown: str, *, now: float, until: float = 0.0, call: str = "", may_return: bool = False
    ) -> None:
        """Raises ``Forbidden`` if ``shown`` was shown before, or if too much is remembered to add more.

        With ``may_return`` it is good again for the same ``call``. ``until`` is the time at which it ends by itself, if
        that is later than ``keep_s`` from now.
        """
        if len(self._shown) >= _MAX_REMEMBERED:
            self._shown = {known: entry for known, entry in self._shown.items() if entry[0] > now}
        of_shown, of_call = _hash(shown), _hash(call)
        known_until, known_call = self._shown.get(of_shown, (now, b""))
        if known_until > now and not (may_return and known_call == of_call):
            raise Forbidden("The signature has already been used.", code="replayed_signature")
        if len(self._shown) >= _MAX_REMEMBERED and of_shown not in self._shown:
            raise Forbidden("Too many signatures are remembered; try again later.", code="replayed_signature")
        self._shown[of_shown] = (max(now + self._keep_s, until), of_call)


def _hash(text: str) -> bytes:
    return sha256(text.encode("utf-8", "surrogatepass")).digest()


def _decoded(part: str) -> bytes:
    """Decodes base64url without its padding (RFC 7515 section 2); raises ``ValueError``."""
    try:
        decoded = base64.b64decode(part + "=" * (-len(part) % 4), altchars=b"-_", validate=True)
    except binascii.Error as error:
        raise ValueError(str(error)) from None
    if _encoded(decoded) != part:  # ``Replays`` would not know another spelling of the same bytes
        raise ValueError("base64url has one spelling")
    return decoded


def _encoded(part: bytes) -> str:
    return base64.urlsafe_b64encode(part).rstrip(b"=").decode()
