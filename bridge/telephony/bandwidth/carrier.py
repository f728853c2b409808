"""Bandwidth's row: a webhook with a password, answered with BXML, and the stream that the BXML starts.

With the bridge's BXML a call ends when its stream is closed. The API, if it is set, ends a call that goes on with
another document.
"""

import time
from collections.abc import Mapping

import msgspec

from bridge.outgoing import Client
from bridge.telephony.bandwidth.dialect import BANDWIDTH_DIALECT, write_bxml, write_transfer
from bridge.telephony.bandwidth.settings import BandwidthSettings
from bridge.telephony.by_secret import password_webhook, secret_socket
from bridge.telephony.carrier import Carrier
from bridge.telephony.dialect import TOKEN_PARAMETER
from bridge.telephony.hang_up import HttpHangUp
from bridge.telephony.transfer import HttpTransfer
from bridge.telephony.webhook import fields_of_json

__all__ = ["BANDWIDTH"]

_PASSED_ON = ("from", "to")
_API = "https://voice.bandwidth.com/api/v2"
_TOKEN_URL = "https://api.bandwidth.com/api/v1/oauth2/token"
_SPARE_S = 60.0  # a token that ends sooner than this is fetched again


class _Token(msgspec.Struct, frozen=True):
    access_token: str
    expires_in: float = 0.0


class _Tokens:
    """The API's tokens, by the account's credential (OAuth 2 client credentials). Each serves until it ends."""

    def __init__(self, client_id: str, secret: str) -> None:
        self._credential = (client_id, secret)
        self._token = ""
        self._until = 0.0

    async def headers(self, http: Client) -> dict[str, str]:
        """Returns the headers of a request; raises ``HTTPError`` or ``ValueError`` if there is no token."""
        if time.monotonic() > self._until - _SPARE_S:
            form = {"grant_type": "client_credentials"}
            response = await http.post(_TOKEN_URL, data=form, auth=self._credential)
            try:
                token = msgspec.json.decode(response.raise_for_status().content, type=_Token)
            except msgspec.DecodeError:
                raise ValueError("this is no token") from None
            self._token, self._until = token.access_token, time.monotonic() + token.expires_in
        return {"Authorization": f"Bearer {self._token}"}


def _write(url: str, token: str, fields: Mapping[str, str]) -> str:
    return write_bxml(url, {TOKEN_PARAMETER: token} | {name: fields[name] for name in _PASSED_ON if name in fields})


def _new_api(settings: BandwidthSettings) -> tuple[str, _Tokens] | None:
    """Returns the address of a call, and the tokens for it; None if a setting for it is missing."""
    account, client = settings.bandwidth_account_id, settings.bandwidth_client_id
    if account is None or client is None or settings.bandwidth_client_secret is None:
        return None
    return f"{_API}/accounts/{account}/calls/{{call}}", _Tokens(client, settings.bandwidth_client_secret)


def _new_hang_up(settings: BandwidthSettings) -> HttpHangUp | None:
    api = _new_api(settings)
    if api is None:
        return None
    url, tokens = api
    return HttpHangUp(BANDWIDTH_DIALECT.name, url, body={"state": "completed"}, authorize=tokens.headers)


def _new_transfer(settings: BandwidthSettings) -> HttpTransfer | None:
    api = _new_api(settings)
    if api is None:
        return None
    url, tokens = api
    name = BANDWIDTH_DIALECT.name
    return HttpTransfer(name, f"{url}/bxml", method="PUT", body=write_transfer, authorize=tokens.headers)


BANDWIDTH = Carrier(
    name=BANDWIDTH_DIALECT.name,
    settings=BandwidthSettings,
    is_open=lambda settings: bool(settings.bandwidth_secret),
    socket=secret_socket(BANDWIDTH_DIALECT, "bandwidth_secret", what="Bandwidth's streams"),
    endpoints=(
        password_webhook(
            BANDWIDTH_DIALECT,
            "bandwidth_secret",
            document="BXML",
            write=_write,
            read=fields_of_json,
            call_field="callId",
            media_type="application/xml",
        ),
    ),
    new_hang_up=_new_hang_up,
    new_transfer=_new_transfer,
    transfer_needs=("bandwidth_account_id", "bandwidth_client_id", "bandwidth_client_secret"),
)
