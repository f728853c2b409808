"""How much sound may wait to be heard: counted by the call's budget, and a clear end where no more fits."""

import pytest

from bridge.media.opus import new_encoder
from bridge.media.outbound import OutboundAudio
from bridge.media.playback import Part
from bridge.session.budget import Budget
from bridge.telephony.dialect import Traits
from bridge.telephony.playout import CarrierPlayout
from bridge.wire.audio import PCM16
from tests.session.stage import MS, PART, Call
from tests.session.test_session_playout import truncations

_ALWAYS_MS = 30_000
_ROOM_MS = 100_000
_NEXT = Part("resp_2", "item_2", 0, 0)


def _call(room_ms: int = _ROOM_MS) -> tuple[Call, Budget]:
    budget = Budget(room_ms * MS, what="This conversation")
    return Call(budget=budget).connect(), budget


def _errors(call: Call) -> list[tuple[str, str]]:
    return [(event["error"]["type"], event["error"]["code"]) for event in call.channel.of_type("error")]


def test_what_waits_to_be_heard_is_counted_and_given_back() -> None:
    """The budget holds what the caller has still to hear, no more when it was heard or cleared."""
    call, budget = _call()
    before = budget.used_bytes
    call.answer(bytes(4000 * MS))
    assert budget.used_bytes - before == 4000 * MS
    call.leg.hear(1000)
    call.answer(bytes(200 * MS))
    assert budget.used_bytes - before == 3200 * MS
    call.finish_answer()
    call.leg.hear(3200)
    assert budget.used_bytes == before
    call.answer(bytes(4000 * MS), _NEXT)
    call.leg.hear(20)
    call.interrupt()
    assert budget.used_bytes == before


def test_an_answer_that_is_too_long_ends_where_no_more_fits() -> None:
    """The caller hears its beginning whole, clients get one error, and the upstream is told where it ends."""
    call, budget = _call()
    call.answer(bytes(200_000 * MS))
    assert _errors(call) == [("server_error", "playback_too_long")]
    assert "resp_1" in call.channel.of_type("error")[0]["error"]["message"]
    [(item_id, content_index, end_ms)] = truncations(call)
    assert (item_id, content_index) == ("item_1", 0)
    assert _ROOM_MS - 1000 <= end_ms <= _ROOM_MS
    assert call.leg.queued_ms == end_ms
    assert budget.used_bytes <= _ROOM_MS * MS
    call.finish_answer()
    call.leg.hear(end_ms)
    assert call.channel.types[-1] == "output_audio_buffer.stopped"
    call.answer(bytes(1000 * MS), _NEXT)
    assert call.leg.queued_ms == 1000
    assert len(_errors(call)) == 1


def test_half_a_minute_may_always_wait() -> None:
    """However much else the conversation, its key or the process keeps, answers of usual length are heard."""
    call, budget = _call()
    budget.charge(2 * _ROOM_MS * MS)
    call.answer(bytes(_ALWAYS_MS * MS))
    assert call.leg.queued_ms == _ALWAYS_MS
    assert _errors(call) == []
    call.answer(bytes(200 * MS))
    assert call.leg.queued_ms == _ALWAYS_MS
    assert _errors(call) == [("server_error", "playback_too_long")]


def test_a_leg_that_takes_no_more_ends_the_answer_as_well() -> None:
    """Nothing behind what it did not take is heard, however short: an answer has an end, and no holes."""
    call, _ = _call()
    call.leg.limit_ms = 1000
    call.answer(bytes(1300 * MS))
    call.leg.hear(500)
    call.answer(bytes(100 * MS))
    assert call.leg.played == bytes(1000 * MS)
    assert _errors(call) == [("server_error", "playback_too_long")]
    assert truncations(call) == [("item_1", 0, 1000)]


def test_responses_that_wait_for_their_turn_are_counted() -> None:
    """What does not fit of one beside the conversation is left out; the one that is being heard goes on."""
    call, budget = _call(40_000)
    call.answer(bytes(25_000 * MS))
    call.answer(bytes(30_000 * MS), _NEXT)  # in pieces of 200 ms
    assert budget.used_bytes <= 40_000 * MS
    assert truncations(call) == [("item_2", 0, 14_800)]
    assert "resp_2" in call.channel.of_type("error")[0]["error"]["message"]
    assert call.leg.queued_ms == 25_000
    call.finish_answer()
    assert call.leg.queued_ms == 39_800


@pytest.mark.parametrize("kind", ["peer", "carrier"])
def test_many_small_pieces_are_counted_with_what_holds_them(kind: str) -> None:
    """Two bytes at a time, each of another part, take more memory than their sound, and count for more."""
    audio: OutboundAudio | CarrierPlayout
    if kind == "peer":
        audio = OutboundAudio(
            new_encoder(24_000), rate_hz=24_000, payload_type=111, ssrc=1, sequence=0, rtp_timestamp=0, limit_s=600
        )
    else:
        audio = CarrierPlayout(PCM16, Traits(lead_ms=1000), limit_s=600)
    for number in range(100):
        assert audio.push(Part("resp_1", f"item_{number}", 0, 0), b"ab")
    assert audio.waiting_bytes > 100 * 500
    audio.push(PART, bytes(1000 * MS))
    assert 100 * 500 + 1000 * MS < audio.waiting_bytes < 1000 * MS + 100 * 2000
    assert not audio.push(PART, bytes(600_000 * MS))
