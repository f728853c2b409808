"""The carriers' own SDKs judge us: what they sign we let in, what we answer they would have written."""

import asyncio
import hashlib
import hmac
import importlib
import json
import re
import textwrap
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, urlencode
from xml.etree import ElementTree

import bandwidth
import jwt
import plivo
import pytest
import telnyx
from azure.communication import callautomation
from azure.communication.callautomation import CallConnectionClient, PhoneNumberIdentifier
from azure.communication.callautomation._shared import policy as acs_policy
from azure.core.credentials import AzureKeyCredential
from bandwidth.models import bxml
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from hypothesis import given
from hypothesis import strategies as st
from jambonz_sdk import JambonzValidator
from jambonz_sdk._signature import verify_signature as jambonz_verify
from plivo import plivoxml
from plivo.utils import signature_v3 as plivo_v3
from requests.adapters import HTTPAdapter
from twilio.request_validator import RequestValidator
from twilio.rest import Client as TwilioClient
from twilio.twiml import voice_response
from vonage_http_client import Auth, HttpClient
from vonage_jwt import verify_signature
from vonage_voice import Voice
from vonage_voice.models import Connect
from vonage_voice.models.connect_endpoints import PhoneEndpoint, WebsocketEndpoint

from bridge.client.carriers.vonage import signed_token
from bridge.daemon import Daemon
from bridge.telephony.acs.carrier import ACS
from bridge.telephony.bandwidth.carrier import BANDWIDTH
from bridge.telephony.bandwidth.dialect import write_bxml
from bridge.telephony.carrier import Carrier
from bridge.telephony.jambonz.dialect import write_dial as write_jambonz_dial
from bridge.telephony.jambonz.dialect import write_verbs
from bridge.telephony.jambonz.sign_in import is_signed as jambonz_is_signed
from bridge.telephony.jwt import read_jwt, signed_hs256
from bridge.telephony.plivo.carrier import PLIVO
from bridge.telephony.plivo.dialect import write_dial as write_plivo_dial
from bridge.telephony.plivo.dialect import write_plivo_xml
from bridge.telephony.plivo.sign_in import sign_v3, signed_v3
from bridge.telephony.telnyx.carrier import TELNYX
from bridge.telephony.twilio.carrier import TWILIO
from bridge.telephony.twilio.dialect import write_twiml
from bridge.telephony.twilio.sign_in import SIGNATURE_HEADER, is_signed, sign
from bridge.telephony.vonage.carrier import VONAGE
from bridge.telephony.vonage.dialect import write_ncco
from tests.end_to_end.web import request
from tests.processes import ROOT
from tests.telephony.fake_api import FakeApi
from tests.telephony.rows import SETTINGS

_TOKEN = SETTINGS["plivo_auth_token"][0]
_PUBLIC = SETTINGS["public_url"]
_KEY = rsa.generate_private_key(65537, 2048)
_PEM = _KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
_ACS_KEY = "MDEyMzQ1Njc4OWFiY2RlZg=="
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


# Answer documents


_URL = "wss://bridge.example.com/v1/telephony/x?a=1&b=<"
_GIVEN = {"token": "ek_0123", "from": "+15550001111", "note": "a\"<&'é"}


def _tree(document: str) -> Any:
    """XML without what is the same to whoever reads it: the order of attributes, spaces between elements."""

    def of(element: ElementTree.Element) -> Any:
        return element.tag, dict(element.attrib), (element.text or "").strip(), [of(child) for child in element]

    return of(ElementTree.fromstring(document))


def test_twiml() -> None:
    """As Twilio's SDK writes it."""
    voice = voice_response.VoiceResponse()
    connect = voice_response.Connect()
    stream = connect.stream(url=_URL)
    for name, value in _GIVEN.items():
        stream.parameter(name=name, value=value)
    voice.append(connect)
    voice.redirect("https://bridge.example.com/again", method="POST")
    assert _tree(write_twiml(_URL, _GIVEN, "https://bridge.example.com/again")) == _tree(str(voice))


def test_plivo_xml() -> None:
    """As Plivo's SDK writes it; Vobiz' is the same."""
    document = plivoxml.ResponseElement()
    document.add(
        plivoxml.StreamElement(
            _URL,
            bidirectional=True,
            keepCallAlive=True,
            contentType="audio/x-mulaw;rate=8000",
            extraHeaders="token=ab12,from=1555",
        )
    )
    assert _tree(write_plivo_xml(_URL, {"token": "ab12", "from": "+1555"})) == _tree(document.to_string())


def test_ncco() -> None:
    """As the models of Vonage's SDK write it."""
    endpoint = WebsocketEndpoint(uri=_URL, contentType="audio/l16;rate=16000", headers=_GIVEN)
    action = Connect(endpoint=[endpoint], from_="15550002222").model_dump(by_alias=True, exclude_none=True, mode="json")
    [ours] = json.loads(write_ncco(_URL, _GIVEN))
    assert ours.items() <= action.items()  # theirs has defaults beside it, and a number, which only a phone call needs


def test_plivos_document_of_a_transfer() -> None:
    """As Plivo's SDK writes it, to a number and to a SIP user."""
    for target, element in (
        ("tel:+1-555-000-3333", plivoxml.NumberElement("+15550003333")),
        ("sip:desk@example.com", plivoxml.UserElement("sip:desk@example.com")),
    ):
        document = plivoxml.ResponseElement().add(plivoxml.DialElement().add(element))
        assert _tree(write_plivo_dial(target)) == _tree(document.to_string())


def test_bxml() -> None:
    """As Bandwidth's SDK writes it."""
    params = [bxml.StreamParam(name=name, value=value) for name, value in _GIVEN.items()]
    document = bxml.Response(
        nested_verbs=[
            bxml.StartStream(
                destination=_URL, name="bridge", mode="bidirectional", tracks="inbound", stream_params=params
            ),
            bxml.StopStream(name="bridge", wait="true"),
        ]
    )
    assert _tree(write_bxml(_URL, _GIVEN)) == _tree(document.to_bxml())


def test_verbs() -> None:
    """jambonz' own schemas, as its SDK has them, find nothing wrong, nor in the page's verb ``llm``."""
    verbs = json.loads(write_verbs(_URL, _GIVEN))
    validator = JambonzValidator()
    assert validator.validate_app(verbs) == []
    del verbs[1]["url"]
    assert validator.validate_app(verbs) != []
    for target in ("tel:+15550003333", "sip:desk@example.com"):
        assert validator.validate_app(json.loads(write_jambonz_dial(target))) == []
    page = (ROOT / "docs" / "telephony" / "jambonz.md").read_text()
    [llm] = re.findall(r"```json\n(\{\n  \"verb\": \"llm\".*?)```", page, re.DOTALL)
    assert validator.validate_app([json.loads(llm)]) == []


def test_the_guides_options_are_azures() -> None:
    """What the page has to paste is what Azure's SDK calls so."""
    page = (ROOT / "docs" / "telephony" / "acs.md").read_text()
    [options] = re.findall(r"media_streaming=(MediaStreamingOptions\(.*?\n +\)),", page, re.DOTALL)
    made = eval(textwrap.dedent(options), vars(callautomation))._to_generated().serialize()
    assert (made["transportUrl"], made["audioFormat"]) == ("wss://bridge.example.com/v1/telephony/acs", "pcm24KMono")
    assert made["enableBidirectional"] is made["enableDtmfTones"] is True


@pytest.mark.parametrize("age_s", [0, 299, 301])
def test_jambonz_judges_a_signature_as_we_do(age_s: int) -> None:
    """Its SDK and we take the same, for the same time."""
    secret, body = "0123456789abcdef", b'{"call_sid":"a"}'
    at = int(time.time()) - age_s
    header = f"t={at},v1={hmac.digest(secret.encode(), f'{at}.'.encode() + body, 'sha256').hex()}"
    is_good = jambonz_is_signed([secret], header, body, now=time.time())
    assert is_good is (age_s < 300)
    if is_good:
        assert jambonz_verify(body, header, secret)
        with pytest.raises(ValueError, match="verification failed"):
            jambonz_verify(body + b" ", header, secret)
    else:
        with pytest.raises(ValueError, match="too old"):
            jambonz_verify(body, header, secret)


# Twilio's signature


@given(form=_FIELDS, port=st.sampled_from(["", ":443", ":8443"]))
def test_twilio_signs_as_we_do(form: dict[str, str], port: str) -> None:
    """Its validator takes our signature of a webhook, and we take its of a webhook and of a stream."""
    validator = RequestValidator(_TOKEN)
    url = f"{_PUBLIC}{port}/v1/telephony/twilio"
    signature = validator.compute_signature(url, form)
    assert is_signed([_TOKEN], url, {SIGNATURE_HEADER: signature}, form)
    assert validator.validate(url, form, sign(_TOKEN, url, form))
    stream = url.replace("https", "wss")
    assert is_signed([_TOKEN], stream, {SIGNATURE_HEADER: validator.compute_signature(stream, {})})


# Hanging up


class _Diverted(HTTPAdapter):
    """Takes requests for the vendor's host to the fake API."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self._url = url

    def send(self, request: Any, *args: Any, **kwargs: Any) -> Any:
        for theirs in ("https://api.nexmo.com/v1", "https://voice.plivo.com/v1", "https://api.plivo.com/v1"):
            request.url = request.url.replace(theirs, self._url)
        return super().send(request, *args, **kwargs)


def _plivo(url: str) -> None:
    client = plivo.RestClient("MAXXXXXXXXXXXXXXXXXX", _TOKEN)
    client.session.mount("https://", _Diverted(url))
    client.calls.hangup("call-1")


def _vonage(url: str) -> None:
    client = HttpClient(Auth(application_id="app-1", private_key=_PEM))
    client._session.mount("https://", _Diverted(url))
    Voice(client).hangup("call-1")


def _telnyx(url: str) -> None:
    telnyx.Telnyx(api_key="KEY", base_url=url, max_retries=0).calls.actions.hangup("call-1")


def _bandwidth_client(url: str) -> Any:
    client = bandwidth.ApiClient(
        bandwidth.Configuration(client_id="id", client_secret="secret", access_token_url=f"{url}/oauth2/token")
    )
    send = client.rest_client.request

    def divert(method: str, address: str, **more: Any) -> Any:
        return send(method, address.replace("https://voice.bandwidth.com/api/v2", url), **more)

    client.rest_client.request = divert
    return client


def _bandwidth(url: str) -> None:
    bandwidth.CallsApi(_bandwidth_client(url)).update_call(
        "A1", "call-1", bandwidth.models.UpdateCall(state="completed")
    )


def _acs(url: str) -> None:
    credential = AzureKeyCredential(_ACS_KEY)
    CallConnectionClient(url, credential, "call-1", api_version="2024-09-15").hang_up(is_for_everyone=True)


_HANG_UPS: list[tuple[Carrier[Any], dict[str, Any], Callable[[str], None]]] = [
    (PLIVO, {"plivo_auth_token": (_TOKEN,), "plivo_auth_id": "MAXXXXXXXXXXXXXXXXXX"}, _plivo),
    (VONAGE, {"vonage_application_id": "app-1", "vonage_private_key": _PEM}, _vonage),
    (TELNYX, {"telnyx_api_key": "KEY"}, _telnyx),
    (
        BANDWIDTH,
        {"bandwidth_account_id": "A1", "bandwidth_client_id": "id", "bandwidth_client_secret": "secret"},
        _bandwidth,
    ),
    (ACS, {"acs_endpoint": "{url}", "acs_access_key": _ACS_KEY}, _acs),
]


@pytest.mark.parametrize(("carrier", "given", "sdk"), _HANG_UPS, ids=[carrier.name for carrier, _, _ in _HANG_UPS])
async def test_we_hang_up_as_the_sdk_does(
    carrier: Carrier[Any], given: dict[str, Any], sdk: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same request and authorization; what the SDK says beyond ours are defaults."""
    async with FakeApi(204 if carrier in (ACS, PLIVO) else 200).serving() as api:
        module = importlib.import_module(f"bridge.telephony.{carrier.name}.carrier")
        monkeypatch.setattr(module, "_API", api.url, raising=False)
        monkeypatch.setattr(module, "_TOKEN_URL", f"{api.url}/oauth2/token", raising=False)
        texts = {name: text.format(url=api.url) if "{url}" in str(text) else text for name, text in given.items()}
        way = carrier.new_hang_up(carrier.settings(**texts))
        assert way is not None
        await way.hang_up("call-1")
        [(_, ours, _)] = api.requests
        monkeypatch.setattr(acs_policy, "get_current_utc_time", lambda: ours["x-ms-date"])
        await asyncio.to_thread(sdk, api.url)
    (line, ours, body), (their_line, theirs, their_body) = api.requests
    assert line == their_line
    said, they_said = json.loads(body or b"{}"), json.loads(their_body or b"{}")
    assert said.items() <= they_said.items()  # theirs has defaults beside it
    if carrier is VONAGE:
        for headers in (ours, theirs):
            token = headers["authorization"].removeprefix("Bearer ")
            claims = jwt.decode(token, _KEY.public_key(), algorithms=["RS256"])
            assert claims["application_id"] == "app-1"
    else:
        assert ours["authorization"] == theirs["authorization"]
    assert ours.get("x-ms-content-sha256") == theirs.get("x-ms-content-sha256")


# Transferring


def _twilio_transfer(url: str) -> None:
    client = TwilioClient("AC1", _TOKEN)
    client.api.base_url = url
    dial = voice_response.Dial()
    dial.number("+15550003333")
    answer = voice_response.VoiceResponse()
    answer.append(dial)
    client.calls("call-1").update(twiml=answer)


def _telnyx_transfer(url: str) -> None:
    telnyx.Telnyx(api_key="KEY", base_url=url, max_retries=0).calls.actions.transfer("call-1", to="+15550003333")


def _vonage_transfer(url: str) -> None:
    client = HttpClient(Auth(application_id="app-1", private_key=_PEM))
    client._session.mount("https://", _Diverted(url))
    connect = Connect(endpoint=[PhoneEndpoint(number="15550003333")], randomFromNumber=True)
    Voice(client).transfer_call_ncco("call-1", [connect])


def _bandwidth_transfer(url: str) -> None:
    document = bxml.Response([bxml.Transfer([bxml.PhoneNumber("+15550003333")])]).to_bxml()
    bandwidth.CallsApi(_bandwidth_client(url)).update_call_bxml("A1", "call-1", document)


_DOCUMENT = f"{_PUBLIC}/v1/telephony/x/transfer?to=tel%3A%2B1&token=a"


def _plivo_transfer(url: str) -> None:
    client = plivo.RestClient("MAXXXXXXXXXXXXXXXXXX", _TOKEN)
    client.session.mount("https://", _Diverted(url))
    client.calls.transfer("call-1", legs="aleg", aleg_url=_DOCUMENT, aleg_method="GET")


def _acs_transfer(url: str) -> None:
    client = CallConnectionClient(url, AzureKeyCredential(_ACS_KEY), "call-1", api_version="2024-09-15")
    client.transfer_call_to_participant(PhoneNumberIdentifier("+15550003333"))


_TRANSFERS: list[tuple[Carrier[Any], dict[str, Any], Callable[[str], None]]] = [
    (TWILIO, {"twilio_account_sid": "AC1", "twilio_auth_token": (_TOKEN,)}, _twilio_transfer),
    (TELNYX, {"telnyx_api_key": "KEY"}, _telnyx_transfer),
    (VONAGE, {"vonage_application_id": "app-1", "vonage_private_key": _PEM}, _vonage_transfer),
    (
        BANDWIDTH,
        {"bandwidth_account_id": "A1", "bandwidth_client_id": "id", "bandwidth_client_secret": "secret"},
        _bandwidth_transfer,
    ),
    (PLIVO, {"plivo_auth_token": (_TOKEN,), "plivo_auth_id": "MAXXXXXXXXXXXXXXXXXX"}, _plivo_transfer),
    (ACS, {"acs_endpoint": "{url}", "acs_access_key": _ACS_KEY}, _acs_transfer),
]


@pytest.mark.parametrize(("carrier", "given", "sdk"), _TRANSFERS, ids=[carrier.name for carrier, _, _ in _TRANSFERS])
async def test_we_transfer_as_the_sdk_does(
    carrier: Carrier[Any], given: dict[str, Any], sdk: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same request, authorization and document; what the SDK says beyond ours are defaults."""
    async with FakeApi(202 if carrier in (ACS, PLIVO) else 200).serving() as api:
        module = importlib.import_module(f"bridge.telephony.{carrier.name}.carrier")
        address = f"{api.url}/2010-04-01" if carrier is TWILIO else api.url
        monkeypatch.setattr(module, "_API", address, raising=False)
        monkeypatch.setattr(module, "_TOKEN_URL", f"{api.url}/oauth2/token", raising=False)
        texts = {name: text.format(url=api.url) if "{url}" in str(text) else text for name, text in given.items()}
        settings = carrier.settings(**texts)
        way = carrier.new_transfer(settings)
        assert way is not None
        await way.transfer("call-1", _DOCUMENT if carrier.transfers_by_document(settings) else "tel:+1-555-000-3333")
        monkeypatch.setattr(acs_policy, "get_current_utc_time", lambda: api.requests[0][1]["x-ms-date"])
        await asyncio.to_thread(sdk, api.url)
    (line, ours, body), (their_line, theirs, their_body) = api.requests
    assert line == their_line
    if carrier in (TWILIO, BANDWIDTH):
        assert _document_in(body) == _document_in(their_body)
    else:
        assert json.loads(body).items() <= json.loads(their_body).items()
    assert ours["content-type"].partition(";")[0] == theirs["content-type"].partition(";")[0]
    if carrier not in (VONAGE, ACS):  # whose tokens are new each time
        assert ours["authorization"] == theirs["authorization"]


def _document_in(body: bytes) -> bytes:
    """The XML of a body, or of the form that it is, in canonical form."""
    text = body.decode()
    if text.startswith("Twiml="):
        (text,) = parse_qs(text)["Twiml"]
    return ElementTree.canonicalize(text.strip(), strip_text=True).encode()
