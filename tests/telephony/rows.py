"""The table of carriers that one suite goes through: what opens each, and what it can do; a new carrier is a row."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from bridge.client.carriers.table import CARRIERS
from bridge.telephony.audiosocket.dialect import frame

__all__ = ["ROWS", "SETTINGS", "Row", "rows_that"]

_KEYS = "0123456789*#ABCD"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One simulated carrier, by its name in ``bridge call --as``."""

    name: str
    endpoint: str = ""
    """The carrier as the bridge knows it; empty: by the same name."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """What opens it."""
    secret: str = ""
    """What it shows; empty: a telephone's key, new for each call."""
    wrong: str = "wrong"
    """What is no secret of it."""
    refusals: tuple[str, ...] = ("invalid_token",)
    """With what a wrong secret is refused."""
    takes_tokens: bool = True
    """A telephone's key opens it, once."""
    is_secret_shown: bool = False
    """The secret stands where else a telephone's key does."""
    keys: str = _KEYS
    """That its callers can press."""
    takes_keys: bool = False
    """The bridge can press keys there."""
    has_word: bool = False
    """The bridge says that it hangs up, and does not just close."""
    has_buffer: bool = True
    """What comes early waits there, so that no delay of the bridge's is heard."""
    comes_back: bool = True
    """A connection that broke can be followed by another one of the same call."""
    asks_again: bool = False
    """Behind a connection that broke the carrier asks the webhook by itself what is next."""
    garbage: tuple[str | bytes, ...] = ()
    faults: int = 5
    """Of the garbage, at least."""

    @property
    def transport(self) -> str:
        """Of its calls."""
        return self.endpoint or self.name


_OF_TWILIO = (
    "", "{", "null", "[]", '{"event":"whatever"}', '{"event":"media"}', '{"event":"media","media":{"payload":"%"}}',
    '{"event":"mark","mark":{"name":"never-sent"}}', '{"event":"dtmf","dtmf":{"digit":"?"}}',
    '{"event":"start","start":{}}', b"\x00\x01", "x" * 70_000,
    '{"event":"media","streamSid":"other","media":{"payload":"/w=="}}',
)  # fmt: skip
_OF_VONAGE = (
    "", "{", "[]", '{"event":"whatever"}', '{"event":"websocket:dtmf","digit":"x"}', '{"event":"websocket:dtmf"}',
    '{"event":"websocket:notify","payload":{"name":"never-sent"}}', '{"event":"websocket:notify"}', b"odd", b"",
    '{"event":"websocket:connected","content-type":"audio/l16;rate=16000"}', b"x" * 70_000,
)  # fmt: skip
_OF_PLIVO = (
    "", "{", "null", '{"event":"whatever"}', '{"event":"media"}', '{"event":"media","media":{"payload":"%"}}',
    '{"event":"playedStream","name":"never-sent"}', '{"event":"dtmf","dtmf":{"digit":"?"}}', '{"event":"playFailed"}',
    '{"event":"error","reason":"x"}', '{"event":"start","start":{}}', b"\x00\x01", "x" * 70_000,
)  # fmt: skip
_PLIVO_TOKEN = "00112233445566778899aabbccddeeff"
_GENESYS_SECRET = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="
_SINCH_SECRET = "MDEyMzQ1Njc4OWFiY2RlZg=="
_VONAGE_SECRET = "fedcba9876543210fedcba9876543210"
_TWILIO_TOKEN = "0123456789abcdef0123456789abcdef"

ROWS: dict[str, Row] = {
    row.name: row
    for row in (
        Row(
            name="twilio",
            asks_again=True,
            settings={"twilio_auth_token": (_TWILIO_TOKEN,), "twilio_sign_in": "either"},
            secret=_TWILIO_TOKEN,
            refusals=("invalid_signature",),
            garbage=_OF_TWILIO,
        ),
        Row(name="signalwire", endpoint="twilio", takes_keys=True, garbage=_OF_TWILIO),
        Row(
            name="sipgate",
            endpoint="twilio",
            secret=_TWILIO_TOKEN,
            refusals=("invalid_signature",),
            has_word=True,
            garbage=_OF_TWILIO,
        ),
        Row(
            name="telnyx",
            is_secret_shown=True,
            settings={"telnyx_secret": ("tel-secret",)},
            secret="tel-secret",
            garbage=(
                "", "{", "7", '{"event":"whatever"}', '{"event":"media","media":{"payload":"%"}}', '{"event":"error"}',
                '{"event":"error","payload":{"code":100002,"title":"unknown_error"}}', b"\x00", "x" * 70_000,
                '{"event":"media","media":{"payload":"/w==","chunk":"one"}}',
                '{"event":"mark","mark":{"name":"never-sent"}}',
            ),
        ),
        Row(
            name="vonage",
            settings={"vonage_signature_secret": (_VONAGE_SECRET,)},
            secret=_VONAGE_SECRET,
            refusals=("invalid_signature",),
            garbage=_OF_VONAGE,
        ),
        Row(
            name="infobip",
            has_buffer=False,
            is_secret_shown=True,
            settings={"infobip_secret": ("inf-secret",)},
            secret="inf-secret",
            garbage=_OF_VONAGE,
        ),
        Row(
            name="plivo",
            settings={"plivo_auth_token": (_PLIVO_TOKEN,)},
            secret=_PLIVO_TOKEN,
            refusals=("invalid_signature",),
            takes_keys=True,
            garbage=_OF_PLIVO,
        ),
        Row(
            name="vobiz",
            settings={"vobiz_auth_token": (_PLIVO_TOKEN,)},
            secret=_PLIVO_TOKEN,
            refusals=("invalid_signature",),
            has_word=True,
            garbage=_OF_PLIVO,
        ),
        Row(
            name="jambonz",
            settings={"jambonz_secret": ("jam-secret",)},
            secret="jam-secret",
            refusals=("invalid_secret",),
            has_word=True,
            garbage=(
                "", "{", "[]", '{"event":"whatever"}', '{"event":"dtmf"}', '{"event":"dtmf","dtmf":"x"}', b"odd", b"",
                '{"type":"mark"}', '{"type":"mark","data":{"name":"never-sent","event":"playout"}}',
                '{"msg":"buffer overrun"}', b"x" * 70_000,
            ),
        ),
        Row(
            name="acs",
            settings={"acs_audience": ("11111111-0000-4000-8000-00000000000a",)},
            garbage=(
                "", "{", "null", '{"kind":"Whatever"}', '{"kind":"AudioData"}', '{"Kind":"DtmfData","DtmfData":{}}',
                '{"kind":"AudioData","audioData":{"data":"%"}}', '{"kind":"DtmfData","dtmfData":{"data":"x"}}',
                '{"kind":"AudioMetadata","audioMetadata":{}}', b"\x00", "x" * 70_000,
            ),
        ),
        Row(
            name="bandwidth",
            settings={"bandwidth_secret": ("band-secret",)},
            secret="band-secret",
            refusals=("invalid_secret",),
            keys="",
            garbage=(
                "", "{", "null", '{"eventType":"whatever"}', '{"eventType":"media"}', '{"event":"media"}',
                '{"eventType":"media","payload":"%"}', '{"eventType":"start","metadata":{}}', b"\x00", "x" * 70_000,
            ),
        ),
        Row(
            name="exotel",
            settings={"exotel_secret": ("exo-secret",)},
            secret="exo-secret",
            refusals=("invalid_secret",),
            garbage=tuple(
                said.replace("streamSid", "stream_sid") if isinstance(said, str) else said for said in _OF_TWILIO
            ),
        ),
        Row(
            name="elks",
            is_secret_shown=True,
            settings={"elks_secret": ("elk-secret",)},
            secret="elk-secret",
            keys="",
            has_word=True,
            garbage=(
                "", "{", "null", '{"t":"whatever"}', '{"t":"audio"}', '{"t":"audio","data":"%"}', '{"event":"audio"}',
                '{"t":"hello"}', '{"t":"sync"}', b"\x00", "x" * 70_000,
            ),
        ),
        Row(
            name="sinch",
            settings={"sinch_application_secret": (_SINCH_SECRET,)},
            secret=_SINCH_SECRET,
            wrong="d3Jvbmc=",
            refusals=("invalid_signature",),
            keys="",
            comes_back=False,
            garbage=(
                "", "{", "null", '{"command":"whatever"}', '{"event":"connect"}', '{"command":"connect"}', b"odd", b"",
                "x" * 70_000, b"x" * 70_000,
            ),
        ),
        Row(
            name="genesys",
            settings={"genesys_api_key": ("a2V5LTE=",), "genesys_client_secret": (_GENESYS_SECRET,)},
            secret=f"a2V5LTE=:{_GENESYS_SECRET}",
            wrong="a2V5LTE=:d3Jvbmc=",
            refusals=("invalid_signature",),
            takes_tokens=False,
            has_word=True,
            comes_back=False,
            garbage=("", "{", "[]", '{"type":"x"}', '{"type":"x","seq":1,"version":"3"}', "x" * 70_000, b""),
        ),
        Row(
            name="asterisk",
            takes_tokens=False,
            settings={"asterisk_secret": ("ast-secret",)},
            secret="ast-secret",
            refusals=("invalid_secret",),
            has_word=True,
            garbage=(
                "", "{", "hello", "SOMETHING_NEW", "MEDIA_START", "MEDIA_MARK_PROCESSED never-sent",
                "DTMF_END digit:?", '{"event":"ERROR","error_text":"x"}', "STATUS queue_length:0", "x" * 70_000, b"",
                b"x" * 70_000,
            ),
        ),
        Row(
            name="audiosocket",
            has_buffer=False,
            takes_tokens=False,
            settings={"audiosocket_port": 0, "audiosocket_uuid": ("40325ec2-5efd-4bd3-805f-53576e581d13",)},
            secret="40325ec2-5efd-4bd3-805f-53576e581d13",
            wrong="00000000-5efd-4bd3-805f-53576e581d13",
            has_word=True,
            comes_back=False,
            garbage=(
                frame(0x01, b"short"), frame(0x01, bytes(16)), frame(0x03), frame(0x10), frame(0x10, b"odd"),
                frame(0x16, bytes(640)), frame(0x77, b"new"), frame(0xFF), frame(0xFF, b"\x01"),
            ),
        ),
    )
}  # fmt: skip
assert set(ROWS) == set(CARRIERS)

SETTINGS: dict[str, Any] = {"public_url": "https://bridge.example.com"}
"""Of a daemon whose endpoints are all open."""
for _row in ROWS.values():
    SETTINGS |= _row.settings


def rows_that(**traits: bool) -> list[str]:
    """The names of the carriers of which this is true."""
    return [
        name for name, row in ROWS.items() if all(bool(getattr(row, trait)) is is_so for trait, is_so in traits.items())
    ]
