"""46elks: its few words both ways, and marks without a name."""

import json

from bridge.telephony.dialect import CallStarted, CarrierReply, Ended, MarkPlayed
from bridge.telephony.elks.dialect import ELKS_DIALECT
from bridge.telephony.json_dialect import JsonDialect
from bridge.wire.audio import pcm16_at

_HELLO = json.dumps({"t": "hello", "callid": "c1", "from": "+15550001111", "to": "+15550002222"})
_LISTENING, _SENDING = ({"t": name, "format": "pcm_24000"} for name in ("listening", "sending"))


def _started() -> JsonDialect:
    dialect = JsonDialect(ELKS_DIALECT, "secret")
    dialect.decode_message(_HELLO)
    return dialect


def test_start() -> None:
    """``hello`` is the call; that we listen and send is said behind it, when its token was judged."""
    started, reply = JsonDialect(ELKS_DIALECT, "secret").decode_message(_HELLO)
    parameters = {"callid": "c1", "from": "+15550001111", "to": "+15550002222"}
    assert started == CallStarted("c1", pcm16_at(24000), parameters, "secret", ids={"callid": "c1"})
    assert isinstance(reply, CarrierReply)
    assert [json.loads(text) for text in reply.messages] == [_LISTENING, _SENDING]


def test_messages() -> None:
    """Sound, ``bye``, and what the bridge says."""
    dialect = _started()
    assert dialect.decode_message('{"t":"audio","data":"6AM="}') == [b"\xe8\x03"]
    assert json.loads(dialect.encode_sound(b"\xe8\x03")) == {"t": "audio", "data": "6AM="}
    assert [json.loads(text) for text in dialect.encode_clear()] == [{"t": "interrupt"}, _SENDING]
    assert [json.loads(text) for text in dialect.encode_hang_up()] == [{"t": "bye"}]
    assert dialect.encode_key("1") == []
    assert dialect.decode_message('{"t":"bye","reason":"hangup","message":"x"}') == [Ended()]


def test_marks_have_no_name() -> None:
    """They are told in their order; those that ``interrupt`` threw away are not waited for."""
    dialect = _started()
    for name in ("m1", "m2"):
        assert [json.loads(text) for text in dialect.encode_mark(name)] == [{"t": "sync"}]
    assert dialect.decode_message('{"t":"sync"}') == [MarkPlayed("m1")]
    dialect.encode_clear()
    dialect.encode_mark("m3")
    assert dialect.decode_message('{"t":"sync"}') == [MarkPlayed("m3")]
    assert dialect.decode_message('{"t":"sync"}') == [MarkPlayed("")]
