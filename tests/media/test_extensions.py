"""Header extensions as another implementation reads them, and the level as it is defined."""

import numpy as np
import pytest
from aiortc.rtcrtpparameters import RTCRtpHeaderExtensionParameters, RTCRtpParameters
from aiortc.rtp import HeaderExtensionsMap, RtpPacket

from bridge.media.extensions import AUDIO_LEVEL_URI, MID_URI, HeaderExtensions, audio_level
from bridge.media.rtp import pack_rtp, parse_rtp

SINE = (32_767 * np.sin(2 * np.pi * 50 * np.arange(480) / 480)).astype("<i2").tobytes()


@pytest.mark.parametrize(("mid_id", "level_id"), [(4, 1), (1, 14), (None, 3), (3, None)])
@pytest.mark.parametrize("mid", ["0", "audio", "sixteen-bytes-ok"])
def test_both_are_read_by_others(mid: str, mid_id: int | None, level_id: int | None) -> None:
    """Whatever was negotiated stands in the packet, and its payload behind it."""
    extensions = HeaderExtensions(mid=mid, mid_id=mid_id, level_id=level_id)
    assert not extensions.is_empty
    packet = pack_rtp(
        b"sound",
        payload_type=111,
        sequence=1,
        rtp_timestamp=2,
        ssrc=3,
        extension=extensions.write_extensions(SINE, is_voice=True),
    )
    ids = {MID_URI: mid_id, AUDIO_LEVEL_URI: level_id}
    known = HeaderExtensionsMap()
    known.configure(
        RTCRtpParameters(
            headerExtensions=[RTCRtpHeaderExtensionParameters(id=i, uri=u) for u, i in ids.items() if i is not None]
        )
    )
    read = RtpPacket.parse(packet, known)
    assert read.payload == b"sound"
    assert read.extensions.mid == (mid if mid_id is not None else None)
    assert read.extensions.audio_level == ((True, 3) if level_id is not None else None)
    header = parse_rtp(packet)
    assert header is not None
    assert packet[header[4] : header[5]] == b"sound"


def test_nothing_negotiated_is_nothing_sent() -> None:
    """Without an id there is no extension."""
    assert HeaderExtensions(mid="0").is_empty


@pytest.mark.parametrize(
    ("pcm", "level"), [(SINE, 3), (bytes(960), 127), (b"", 127), (b"\x00\x80" * 480, 0), (b"\1\0" * 480, 90)]
)
def test_the_level_is_that_of_the_rfc(pcm: bytes, level: int) -> None:
    """dB below overload: 0 for a full-scale square wave, 3 for a sine, 127 for silence."""
    assert audio_level(pcm) == level
