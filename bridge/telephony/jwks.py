"""Public keys by which a carrier signs its tokens, fetched from the carrier (RFC 7517)."""

import asyncio
import time
from collections.abc import Mapping

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from bridge.errors import Overloaded
from bridge.log import get_logger
from bridge.outgoing import HTTPError, new_client
from bridge.telephony.jwt import key_id_of, read_jwks

__all__ = ["PublicKeys"]

_log = get_logger("telephony")

_FETCH_TIMEOUT_S = 3.0
_REFRESH_S = 60.0
_MAX_KEYS_BYTES = 65_536


class PublicKeys:
    """The keys of one carrier by their id. They are fetched if an unknown one is needed, at most once a minute."""

    def __init__(self) -> None:
        self._keys: dict[str, dict[str, RSAPublicKey]] = {}
        self._fetched_at: dict[str, float] = {}
        self._lock = asyncio.Lock()

    async def of(self, carrier: str, url: str, token: str) -> Mapping[str, RSAPublicKey]:
        """Returns the keys of ``url``, as fresh as ``token`` needs them.

        Raises ``Overloaded`` if they cannot be fetched.
        """
        async with self._lock:
            keys = self._keys.get(url, {})
            is_due = time.monotonic() - self._fetched_at.get(url, -_REFRESH_S) >= _REFRESH_S
            if is_due and key_id_of(token) not in keys:
                self._fetched_at[url] = time.monotonic()
                if fetched := await _fetch(carrier, url):  # otherwise the known keys are as good as before
                    keys = self._keys[url] = fetched
            if not keys:
                raise Overloaded(f"The keys of {carrier} cannot be fetched, and nothing can be verified without them.")
            return keys


async def _fetch(carrier: str, url: str) -> dict[str, RSAPublicKey]:
    try:
        async with asyncio.timeout(_FETCH_TIMEOUT_S), new_client(_FETCH_TIMEOUT_S) as http:
            response = await http.get(url)
            return read_jwks(response.raise_for_status().content[:_MAX_KEYS_BYTES])
    except (HTTPError, ValueError, TimeoutError) as error:
        _log.warning("telephony.keys_failed", carrier=carrier, problem=type(error).__name__)
        return {}
