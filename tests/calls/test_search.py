"""A call is found by what somebody has of it."""

import pytest

from bridge.calls.directory import CallRecord
from bridge.calls.search import matches
from bridge.context import CallContext

_CONTEXT = CallContext(
    call_id="rtc_AbC123",
    session_id="sess_Xyz",
    caller="[2001:db8::7]:5060",
    carrier_ids={"callSid": "CA0123", "streamSid": "MZ99"},
    metadata={"from": "+49 (30) 123-456", "to": "sip:+15551234567@pbx.example", "order": "A-77", "token": "hush-hush"},
    secrets=("hush-hush",),
)


@pytest.mark.parametrize(
    "query",
    [
        "rtc_AbC123",
        "abc12",
        "sess_xyz",
        "2001:db8::7",
        "ca0123",
        "MZ99",
        "key_42",
        "a-77",
        "+49 (30) 123-456",
        "+4930123456",
        " 4930123456",
        "004930123456",
        "030 123 456",
        "123456",
        "+1 555 123 45 67",
        "pbx.example",
    ],
)
def test_what_a_call_is_found_by(query: str) -> None:
    """Its ids, its carrier's, its caller's address, metadata, its key; a part is enough, a number in any spelling."""
    assert CallRecord.of(_CONTEXT, "key_42").is_found_by(query)


@pytest.mark.parametrize("query", ["rtc_other", "+4930123457", "5060123", "hush", "hush-hush", "( )", "000"])
def test_what_a_call_is_not_found_by(query: str) -> None:
    """Anything else, digits of two numbers, or a secret that the call brought."""
    assert not CallRecord.of(_CONTEXT, "key_42").is_found_by(query)


def test_long_metadata_is_searched_at_its_beginning() -> None:
    """What a caller may make as long as it likes costs little: 256 characters of 16 values."""
    values = {f"name{number}": f"value{number:02d}" + "x" * 1000 + "end" for number in range(40)}
    record = CallRecord.of(CallContext(call_id="rtc_1", session_id="sess_1", metadata=values), "api")
    assert record.is_found_by("value15x")
    assert not record.is_found_by("value16x")
    assert not record.is_found_by("xend")
    assert sum(map(len, record.found_by)) < 16 * 256 + 64


@pytest.mark.parametrize("texts", [(), ("",), ("no number",), ("12",)])
def test_nothing_to_find(texts: tuple[str, ...]) -> None:
    """A number is no part of a text that has none."""
    assert not matches("+49 30 1", texts)
