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
    refusals: tuple[str, ...] = ("invalid_token",)
    """With what a wrong secret is refused."""
    keys: str = _KEYS
    """That its callers can press."""
    takes_keys: bool = False
    """The bridge can press keys there."""
    has_word: bool = False
    """The bridge says that it hangs up, and does not just close."""
    comes_back: bool = True
    """A connection that broke can be followed by another one of the same call."""
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
_TWILIO_TOKEN = "0123456789abcdef0123456789abcdef"

ROWS: dict[str, Row] = {
    row.name: row
    for row in (
        Row(
            name="twilio",
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
            name="asterisk",
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
            settings={"audiosocket_port": 0, "audiosocket_uuid": ("40325ec2-5efd-4bd3-805f-53576e581d13",)},
            secret="40325ec2-5efd-4bd3-805f-53576e581d13",
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
