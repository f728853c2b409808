"""Where an answer was cut: what is taken for heard is what each simulated carrier has played, to two frames."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from bridge.client.carriers.acs import AcsCarrier
from bridge.client.carriers.bandwidth import BandwidthCarrier
from bridge.client.carriers.contract import SimulatedCarrier, silence_of
from bridge.client.carriers.exotel import ExotelCarrier
from bridge.client.carriers.genesys import GenesysCarrier
from bridge.client.carriers.jambonz import JambonzCarrier
from bridge.client.carriers.plivo import PlivoCarrier
from bridge.client.carriers.vonage import InfobipCarrier, VonageCarrier
from bridge.media.playback import Part
from bridge.telephony.acs.dialect import ACS_DIALECT
from bridge.telephony.bandwidth.dialect import BANDWIDTH_DIALECT
from bridge.telephony.dialect import CallStarted, CarrierDialect, CarrierReply, MarkPlayed
from bridge.telephony.exotel.dialect import EXOTEL_DIALECT
from bridge.telephony.genesys.dialect import Genesys
from bridge.telephony.infobip.dialect import INFOBIP_DIALECT
from bridge.telephony.jambonz.dialect import JAMBONZ_DIALECT
from bridge.telephony.json_dialect import JsonDialect
from bridge.telephony.playout import CarrierPlayout
from bridge.telephony.plivo.dialect import PLIVO_DIALECT
from bridge.telephony.vonage.dialect import VONAGE_DIALECT
from bridge.wire.audio import G711_ULAW, pcm16_at

_PART = Part("resp_1", "item_1", 0, 0)
_TICK_S = 0.02
_L16 = "audio/l16;rate=16000"
_PAIRS: dict[str, tuple[Callable[[], Any], Callable[[], CarrierDialect]]] = {
    "vonage": (partial(VonageCarrier, _L16, {"uuid": "u"}), partial(JsonDialect, VONAGE_DIALECT)),
    "infobip": (partial(InfobipCarrier, _L16, {"callId": "c"}), partial(JsonDialect, INFOBIP_DIALECT)),
    "plivo": (partial(PlivoCarrier, "c", "token=t"), partial(JsonDialect, PLIVO_DIALECT)),
    "jambonz": (partial(JambonzCarrier, "c", 24000, {}), partial(JsonDialect, JAMBONZ_DIALECT)),
    "acs": (partial(AcsCarrier, pcm16_at(24000)), partial(JsonDialect, ACS_DIALECT)),
    "bandwidth": (partial(BandwidthCarrier, "c", {}, G711_ULAW), partial(JsonDialect, BANDWIDTH_DIALECT)),
    "exotel": (partial(ExotelCarrier, "c", pcm16_at(8000), {}), partial(JsonDialect, EXOTEL_DIALECT)),
    "genesys": (partial(GenesysCarrier, "s", "PCMU", G711_ULAW, {}), Genesys),
}


@pytest.mark.parametrize("name", _PAIRS)
@pytest.mark.parametrize("ticks", [5, 17, 33, 120])
def test_an_answer_is_cut_where_it_was_heard_to(name: str, ticks: int) -> None:
    """The carrier complains of nothing on the way, and plays nothing of the answer behind the cut."""
    carrier: SimulatedCarrier = _PAIRS[name][0]()
    dialect = _PAIRS[name][1]()
    [started] = _told(dialect, carrier, carrier.opening_messages())
    assert isinstance(started, CallStarted)
    audio = CarrierPlayout(started.output_format, dialect.traits, limit_s=60)
    silent = silence_of(started.output_format)
    loud = bytes([0x11]) * len(silent)
    audio.push(_PART, loud * 500)
    now, heard = 100.0, 0
    for _ in range(ticks):
        pieces, _events = audio.tick(now)
        for piece in pieces:
            marks = dialect.encode_mark(piece.mark) if piece.mark else []
            for message in (dialect.encode_sound(piece.sound), *marks):
                _played(audio, _told(dialect, carrier, carrier.receive_bridge_message(message)), now)
        now += _TICK_S
        frame, said = carrier.play_frame()
        heard += frame != silent
        _played(audio, _told(dialect, carrier, said), now)
    cut = audio.clear(now)
    for message in dialect.encode_clear():
        carrier.receive_bridge_message(message)
    assert cut is not None
    assert abs(cut[1][0].audio_end_ms - 20 * heard) <= 40
    assert name == "infobip" or carrier.play_frame()[0] == silent
    assert carrier.complaints == []


def _told(dialect: CarrierDialect, carrier: SimulatedCarrier, messages: list[str | bytes]) -> list[Any]:
    """What messages of the carrier's mean; what is answered to them is given to it."""
    events = [event for message in messages for event in dialect.decode_message(message)]
    for event in events:
        if isinstance(event, CarrierReply):
            for text in event.messages:
                carrier.receive_bridge_message(text)
    return [event for event in events if not isinstance(event, CarrierReply)]


def _played(audio: CarrierPlayout, events: list[Any], now: float) -> None:
    for event in events:
        if isinstance(event, MarkPlayed):
            audio.played(event.mark, now)
