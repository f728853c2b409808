"""Base64 in JSON, against Python's own."""

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.wire.base64_json import quoted_base64, read_base64


@given(st.binary(max_size=64))
def test_bytes_come_back(data: bytes) -> None:
    """What is written is what Python writes, and reads as what it was."""
    text = json.loads(quoted_base64(data))
    assert text == base64.b64encode(data).decode()
    assert read_base64(text) == data


@pytest.mark.parametrize(
    "text", ["Q", "QQ", "QQ=", "QQ===", "QQ==QQ==", "QUJD\n", " QUJD", "QUJD=", "QU-_", "QUJ\u00e9"]
)
def test_what_is_no_base64_is_refused(text: str) -> None:
    """Half a group, padding too little, too much or in the middle, white space, the alphabet of URLs."""
    with pytest.raises(ValueError, match="not base64"):
        read_base64(text)
