"""The examples are such as the carriers and the bridge understand."""

import json
import os
import re
import subprocess
from configparser import ConfigParser
from pathlib import Path
from urllib.parse import urlsplit
from uuid import UUID
from xml.etree import ElementTree

from bridge.telephony.asterisk.dialect import FORMATS, SUBPROTOCOL
from bridge.telephony.carrier import TELEPHONY
from tests.machine import scaled

_EXAMPLES = Path(__file__).parents[2] / "examples" / "telephony"


def test_twiml() -> None:
    """A stream to the endpoint, with a token."""
    stream = ElementTree.parse(_EXAMPLES / "twilio.xml").find("./Connect/Stream")
    assert stream is not None
    assert urlsplit(str(stream.get("url")))[:3] == ("wss", "bridge.example.com", f"{TELEPHONY}/twilio")
    assert "token" in {entry.get("name") for entry in stream.iter("Parameter")}


def test_telnyx_command(tmp_path: Path) -> None:
    """What it posts, to a ``curl`` that only shows it: both ways in one codec, by RTP payload, with the secret."""
    curl = tmp_path / "curl"
    curl.write_text("#!/bin/sh\ncat\n")
    curl.chmod(0o755)
    environ = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "TELNYX_API_KEY": "k", "BRIDGE_TELNYX_SECRET": "s"}
    command = ["sh", str(_EXAMPLES / "telnyx.sh"), "v3:abc"]
    posted = json.loads(
        subprocess.run(command, env=environ, capture_output=True, check=True, timeout=scaled(10)).stdout
    )
    assert urlsplit(posted["stream_url"]).path == f"{TELEPHONY}/telnyx"
    assert (posted["stream_bidirectional_mode"], posted["stream_auth_token"]) == ("rtp", "s")
    assert posted["stream_codec"] == posted["stream_bidirectional_codec"] == "PCMU"


def test_asterisk_connection() -> None:
    """To the endpoint, with the subprotocol, one connection a call."""
    config = ConfigParser(comment_prefixes=";")
    config.read(_EXAMPLES / "websocket_client.conf")
    connection = config["bridge"]
    assert urlsplit(connection["uri"]).path == f"{TELEPHONY}/asterisk"
    assert (connection["type"], connection["protocols"]) == ("websocket_client", SUBPROTOCOL)
    assert connection["connection_type"] == "per_call_config"


def test_asterisk_dialplan() -> None:
    """It dials codecs that are served, and its UUID is one."""
    dialplan = (_EXAMPLES / "extensions.conf").read_text()
    codecs = re.findall(r"WebSocket/\w+/c\((\w+)\)", dialplan)
    assert len(codecs) == 2
    assert set(codecs) <= FORMATS.keys()
    [uuid] = re.findall(r"AudioSocket\(([0-9a-f-]+),", dialplan)
    assert str(UUID(uuid)) == uuid
    assert set(re.findall(rf"{TELEPHONY}/\w+", dialplan)) == {f"{TELEPHONY}/audiosocket", f"{TELEPHONY}/asterisk"}
