"""The carriers' own SDKs judge us: what they sign we let in, what we answer they would have written."""

import hashlib
import time
from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st
from plivo.utils import signature_v3 as plivo_v3
from vonage_jwt import verify_signature

from bridge.client.carriers.vonage import signed_token
from bridge.daemon import Daemon
from bridge.telephony.jwt import read_jwt, signed_hs256
from bridge.telephony.plivo.sign_in import sign_v3, signed_v3
from tests.end_to_end.web import request
from tests.telephony.rows import SETTINGS

_TOKEN = SETTINGS["plivo_auth_token"][0]
_PUBLIC = SETTINGS["public_url"]
_NAME = st.text("abzAZ09_", min_size=1, max_size=8)
_FIELDS = st.dictionaries(_NAME, st.text("abzAZ09 .+&=é?", max_size=8), max_size=5)


# Plivo's signature


@given(query=st.dictionaries(_NAME, st.text("abzAZ09 .+&=?", max_size=8), max_size=3), form=_FIELDS)
def test_plivo_signs_as_we_do(query: dict[str, str], form: dict[str, str]) -> None:
    """Its validator takes our signature of any request, and we take its."""
    url = f"{_PUBLIC}/v1/telephony/plivo" + (f"?{urlencode(query)}" if query else "")
    for method, fields in (("GET", None), ("POST", form)):
        text = plivo_v3.construct_get_url(url, {}) if fields is None else plivo_v3.construct_post_url(url, fields)
        theirs = plivo_v3.get_signature_v3(_TOKEN.encode(), text.decode(), "12345").decode()
        assert signed_v3([_TOKEN], url, theirs, "12345", fields) is not None
        ours = sign_v3(_TOKEN, url, "12345", fields)
        assert plivo_v3.validate_v3_signature(method, url, "12345", _TOKEN, ours, dict(fields or {}))


async def _plivo_webhook(daemon: Daemon, form: dict[str, str], nonce: str, signature: str) -> int:
    headers = {
        "Content-Type": "application/x-www-form-urlencoded",
        "X-Plivo-Signature-V3": signature,
        "X-Plivo-Signature-V3-Nonce": nonce,
    }
    reply = await request("POST", f"{daemon.url}v1/telephony/plivo", headers=headers, body=urlencode(form))
    return reply.status


async def test_plivo_request_has_one_reading(open_daemon: Daemon) -> None:
    """Between the last field and the nonce is a dot alone: with another border between them it is the same request."""
    url, form = f"{_PUBLIC}/v1/telephony/plivo", {"CallUUID": "c", "To": "1.5"}
    signature = sign_v3(_TOKEN, url, "12345", form)
    moved = {"CallUUID": "c", "To": "1"}
    assert plivo_v3.validate_v3_signature("POST", url, "5.12345", _TOKEN, signature, dict(moved))  # for the SDK, good
    assert await _plivo_webhook(open_daemon, form, "12345", signature) == 200
    assert await _plivo_webhook(open_daemon, form, "12345", signature) == 403
    assert await _plivo_webhook(open_daemon, moved, "5.12345", signature) == 403
    assert open_daemon.telephony.calls.refused["plivo.replayed_signature"] == 2


# Vonage's tokens


def test_vonage_takes_our_simulators_tokens() -> None:
    """Its verifier and ours agree on each."""
    for secret in ("0123456789abcdef0123456789abcdef", "fedcba9876543210fedcba9876543210"):
        token = signed_token(secret, api_key="abcd1234")
        assert verify_signature(token, secret)
        assert read_jwt(token, signed_hs256([secret]), now=time.time())
        assert not verify_signature(token, secret[::-1])


@pytest.mark.parametrize(
    ("body", "hashed", "status"),
    [
        (b'{"uuid":"u"}', b'{"uuid":"u"}', 200),
        (b"", b"", 200),
        (b"", None, 403),
        (b"", b'{"uuid":"u"}', 403),
        (b'{"uuid":"u"}', None, 403),
    ],
)
async def test_vonage_webhook_needs_a_hash(open_daemon: Daemon, body: bytes, hashed: bytes | None, status: int) -> None:
    """Of its body, and be it empty: a token that was signed for the socket, or for another body, opens no webhook."""
    secret = SETTINGS["vonage_signature_secret"][0]
    claims: dict[str, Any] = {} if hashed is None else {"payload_hash": hashlib.sha256(hashed).hexdigest()}
    token = signed_token(secret, **claims)
    assert verify_signature(token, secret)
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {token}"}
    url = f"{open_daemon.url}v1/telephony/vonage?uuid=other"
    assert (await request("POST", url, headers=headers, body=body)).status == status
