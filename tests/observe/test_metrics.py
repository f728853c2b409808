"""Metrics of calls: what is counted, when, and under which labels."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from msgspec.structs import replace

from bridge.calls.registry import CallLimits, Registry
from bridge.calls.terms import Terms
from bridge.errors import PeerLost, UpstreamError
from bridge.media.playback import Part
from bridge.observe.metrics import Metrics
from bridge.session.session import Session
from bridge.wire import own_events as own
from bridge.wire import server_events as server
from bridge.wire.audio import PCM16
from bridge.wire.choices import Choices
from bridge.wire.stats import (
    WEBRTC,
    WEBSOCKET,
    CarrierLegStats,
    LegStats,
    ListenerRole,
    PeerStats,
    Transport,
    UpstreamStats,
)
from tests.fakes import FakeClock, FakeLeg, FakeSink, FakeUpstream
from tests.observe.figures import DAEMON, Figures, figures_of
from tests.session.stage import IDS, MS, PART

_PEER = PeerStats(
    sent=100, queued_ms=0, overflow_ms=0, faults=1, packets=1000, lost=10, late=3, too_fast=0, doubles=0, recovered=7,
    concealed_ms=60, silence_ms=0, jitter_ms=4.0, reorder_ms=0, held=0, round_trip_ms=30.0, passed_on=0, resent=2,
    remote_lost_percent=0.0, remote_jitter_ms=0.0, moves=1, datagrams_dropped=0,
)  # fmt: skip
_CARRIER = CarrierLegStats(
    sent=50,
    queued_ms=400,
    overflow_ms=0,
    faults=0,
    is_connected=True,
    messages=70,
    input_late_ms=800,
    late_ms=500,
    returns=1,
)


class Leg(FakeLeg):
    """A leg with figures."""

    figures: LegStats = _PEER

    def stats(self) -> LegStats:
        return self.figures


class House:
    """A registry with metrics, whose upstreams and legs do what the test says."""

    def __init__(self) -> None:
        self.clock = FakeClock(50.0)
        self.upstream = FakeUpstream()
        self.registry = Registry(
            lambda info: self.upstream,
            CallLimits(max_calls=5, max_listeners_per_call=3, call_limit_s=3600.0, resume_grace_s=30.0),
        )
        self.metrics = Metrics(self.registry.find, lambda: DAEMON, carriers=["twilio"], clock=self.clock)
        self.registry.events.subscribe(self.metrics)

    def call(self, transport: Transport = WEBRTC, figures: LegStats = _PEER) -> tuple[Session, Leg]:
        """A call whose caller is connected; the upstream's ``downstream`` is its session."""
        session = self.registry.open(Terms(model="parrot"), transport=transport)
        port = session.legs.new_port()
        leg = Leg(port)
        leg.figures = figures
        session.legs.connect_leg(leg, port)
        leg.connect()
        return session, leg

    async def figures(self) -> Figures:
        return await figures_of(self.metrics)


@pytest.fixture
async def house() -> AsyncIterator[House]:
    """A house without calls."""
    house = House()
    async with house.registry:
        yield house


async def _over(session: Session) -> None:
    """Returns when the session has ended."""
    await session.lifetime.closed.wait()


async def test_what_can_be_foreseen_is_there_from_the_start(house: House) -> None:
    """A counter that begins at 1 shows no rise, so nobody would be told of the first fault."""
    found = await house.figures()
    assert found["bridge_calls_opened_total"] == {
        ("", "webrtc"): 0,
        ("", "websocket"): 0,
        ("", "live"): 0,
        ("twilio", "telephone"): 0,
    }
    assert len(found["bridge_calls_closed_total"]) == 4 * 4
    assert found["bridge_call_endings_total"]["other",] == 0
    assert found["bridge_rtp_packets_lost_total"] == {(): 0}
    assert found["bridge_calls"]["twilio", "connected", "telephone"] == 0
    assert set(found["bridge_listeners"].values()) == {0}


@pytest.mark.parametrize(
    ("transport", "labels"),
    [("webrtc", ("", "webrtc")), ("websocket", ("", "websocket")), ("twilio", ("twilio", "telephone"))],
)
async def test_a_call_is_counted_by_the_way_it_came(
    house: House, transport: Transport, labels: tuple[str, str]
) -> None:
    """A telephone call's carrier is a label of its own."""
    session, _ = house.call(transport)
    found = await house.figures()
    assert found["bridge_calls_opened_total"][labels] == 1
    assert found["bridge_calls"][labels[0], "connected", labels[1]] == 1
    assert found["bridge_call_setup_seconds_count"][labels] == 1
    session.close("hangup")
    await _over(session)
    found = await house.figures()
    assert found["bridge_calls_closed_total"][labels[0], "success", labels[1]] == 1
    assert found["bridge_call_endings_total"]["hangup",] == 1
    assert found["bridge_call_duration_seconds_count"][labels] == 1
    assert sum(found["bridge_calls"].values()) == 0


async def test_a_call_that_failed_is_counted_by_whose_doing_it_was(house: House) -> None:
    """What a service calls its error is its own word, and no label."""
    session, leg = house.call()
    leg.vanish("peer_lost", PeerLost("gone"))
    session.lifetime.window.close_window()
    session.close("peer_lost", error=PeerLost("gone"))
    await _over(session)
    strange, _ = house.call()
    strange.upstream_closed(UpstreamError("No.", code="no such thing; see https://example.com"))
    await _over(strange)
    found = await house.figures()
    assert found["bridge_calls_closed_total"]["", "client_error", "webrtc"] == 1
    assert found["bridge_calls_closed_total"]["", "upstream_error", "webrtc"] == 1
    assert found["bridge_call_endings_total"]["peer_lost",] == 1
    assert found["bridge_call_endings_total"]["other",] == 1


async def test_the_figures_of_a_leg_outlive_its_call(house: House) -> None:
    """Totals hold what running calls have counted and what ended ones had, each packet once."""
    first, leg = house.call()
    for _ in range(2):
        assert (await house.figures())["bridge_rtp_packets_received_total"] == {(): 1000}
    leg.figures = replace(_PEER, packets=1500, lost=20)
    first.close("hangup")
    await _over(first)
    house.call()
    found = await house.figures()
    assert found["bridge_rtp_packets_received_total"] == {(): 2500}
    assert found["bridge_rtp_packets_lost_total"] == {(): 30}
    assert found["bridge_rtp_packets_recovered_total"] == {(): 14}
    assert found["bridge_rtp_concealed_seconds_total"][()] == pytest.approx(0.12)
    assert found["bridge_leg_sent_total"]["", "webrtc"] == 200


async def test_a_leg_that_takes_the_place_of_another_begins_at_zero(house: House) -> None:
    """A call whose caller comes back with a new peer loses nothing of what the first one had counted."""
    session, leg = house.call()
    await house.figures()
    leg.figures = replace(_PEER, packets=1400)
    session.audience.hub.publish_own(own.CallLost(call_id=session.info.id, reason="peer_lost", seconds=30))
    session.audience.hub.publish_own(own.CallResumed(call_id=session.info.id))
    leg.figures = replace(_PEER, packets=5)
    found = await house.figures()
    assert found["bridge_rtp_packets_received_total"] == {(): 1405}
    assert found["bridge_calls_lost_total"]["", "webrtc"] == 1
    assert found["bridge_calls_resumed_total"]["", "webrtc"] == 1


async def test_the_quality_of_callers_is_sampled_at_each_collection(house: House) -> None:
    """Jitter and round trip of each WebRTC caller from whom sound has come."""
    house.call()
    house.call(figures=replace(_PEER, packets=0))
    for _ in range(3):
        found = await house.figures()
    assert found["bridge_rtp_jitter_seconds_count"] == {(): 3}
    assert found["bridge_rtp_jitter_seconds_sum"][()] == pytest.approx(0.012)
    assert found["bridge_rtp_round_trip_seconds_bucket"]["0.05",] == 3


async def test_a_telephone_call_has_figures_of_its_own(house: House) -> None:
    """By carrier: what came, how late the carrier plays, how often its connection came back, what is queued."""
    house.call(Transport("twilio"), _CARRIER)
    house.call(Transport("twilio"), replace(_CARRIER, queued_ms=1600))
    found = await house.figures()
    assert found["bridge_telephony_messages_received_total"] == {("twilio",): 140}
    assert found["bridge_telephony_late_seconds_total"] == {("twilio",): 1.0}
    assert found["bridge_telephony_input_late_seconds_total"] == {("twilio",): 1.6}
    assert found["bridge_telephony_returns_total"] == {("twilio",): 2}
    assert found["bridge_playback_queued_seconds"] == {(): 2.0}
    assert found["bridge_playback_queued_longest_seconds"] == {(): 1.6}


async def test_a_turn_takes_from_the_end_of_speech_to_the_first_sound_that_is_heard(house: House) -> None:
    """By who answered; the next sound of the same answer counts no more, nor does an answer that nobody spoke for."""
    _, leg = house.call()
    downstream = house.upstream.downstream
    house.clock.now += 2.0
    downstream.deliver_event(server.InputAudioBufferSpeechStopped(audio_end_ms=900, item_id="item_a"))
    house.clock.now += 0.7
    downstream.deliver_audio(PART, bytes(400 * MS))
    leg.hear(200)
    leg.hear(100)
    downstream.deliver_audio(Part("resp_2", "item_2", 0, 0), bytes(400 * MS))
    leg.hear(1000)
    found = await house.figures()
    assert found["bridge_turn_latency_seconds_count"] == {("cloud",): 0, ("fake",): 1, ("local",): 0}
    assert found["bridge_turn_latency_seconds_sum"]["fake",] == pytest.approx(0.7)
    assert found["bridge_call_first_sound_seconds_count"]["", "webrtc"] == 1
    assert found["bridge_call_first_sound_seconds_sum"]["", "webrtc"] == pytest.approx(2.7)


async def test_a_turn_that_the_caller_goes_on_with_is_not_measured(house: House) -> None:
    """Who speaks again before an answer came has not ended the turn."""
    _, leg = house.call()
    downstream = house.upstream.downstream
    downstream.deliver_event(server.InputAudioBufferSpeechStopped(audio_end_ms=900, item_id="item_a"))
    house.clock.now += 5.0
    downstream.deliver_event(server.InputAudioBufferSpeechStarted(audio_start_ms=2000, item_id="item_b"))
    downstream.deliver_audio(PART, bytes(400 * MS))
    leg.hear(200)
    assert sum((await house.figures())["bridge_turn_latency_seconds_count"].values()) == 0


async def test_who_plays_for_itself_has_its_answer_with_the_first_word(house: House) -> None:
    """Over a WebSocket nobody says when sound is heard: the first word that was sent counts, or all of the sound."""
    for event in (server.OutputAudioTranscriptDelta(delta="Hello", **IDS), server.OutputAudioDone(**IDS)):
        session = house.registry.open(Terms(model="parrot"), transport=WEBSOCKET)
        session.audience.attach(FakeSink(), role=ListenerRole.OWNER)
        session.deliver_event(server.InputAudioBufferSpeechStopped(audio_end_ms=900, item_id="item_a"))
        house.clock.now += 0.25
        session.deliver_event(event)
        house.clock.now += 1.0
        session.deliver_event(server.OutputAudioDone(**IDS))
    found = await house.figures()
    assert found["bridge_turn_latency_seconds_count"]["fake",] == 2
    assert found["bridge_turn_latency_seconds_sum"]["fake",] == pytest.approx(0.5)
    assert found["bridge_call_first_sound_seconds_count"]["", "websocket"] == 2


async def test_listeners_are_counted_by_role_and_what_they_missed_stays_counted(house: House) -> None:
    """Sound that was left out for a slow listener is not forgotten when the listener goes."""
    session, leg = house.call()
    sink = FakeSink(room=1)
    slow = session.audience.attach(sink, role=ListenerRole.OBSERVER, choices=Choices(audio=PCM16))
    for _ in range(200):
        leg.speak(bytes(100 * MS))
    dropped = slow.dropped_events
    assert dropped > 0
    found = await house.figures()
    assert found["bridge_listeners"]["observer",] == 1
    assert found["bridge_listener_events_dropped_total"] == {(): dropped}
    assert found["bridge_listener_backlog_bytes"][()] > 0
    session.detach(slow)
    found = await house.figures()
    assert found["bridge_listeners"]["observer",] == 0
    assert found["bridge_listener_events_dropped_total"] == {(): dropped}


async def test_answers_are_counted_by_who_gave_them(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a change of the upstream, the next answers are the next one's."""
    house.call()
    stats = UpstreamStats(name="cloud", lines=1, lost=0, answers=3)
    monkeypatch.setattr(house.upstream, "stats", lambda: stats)
    await house.figures()
    stats = UpstreamStats(name="local", lines=1, lost=1, answers=5)
    assert (await house.figures())["bridge_answers_total"] == {("cloud",): 3, ("local",): 2}


async def test_recordings_are_counted(house: House) -> None:
    """Those that begin, and those that end, by the reason."""
    house.registry.events.publish(own.RecordingStarted(call_id="rtc_1", recording_id="rec_1"))
    for reason in ("failed", "whatever"):
        ended = own.RecordingEnded(call_id="rtc_1", recording_id="rec_1", reason=reason, seconds=1.0, files=[])
        house.registry.events.publish(ended)
    found = await house.figures()
    assert found["bridge_recordings_started_total"] == {(): 1}
    assert (found["bridge_recordings_ended_total"]["failed",], found["bridge_recordings_ended_total"]["other",]) == (
        1,
        1,
    )


async def test_figures_of_the_process(house: House) -> None:
    """Each figure of ``DaemonStats`` is there, in base units."""
    found = await house.figures()
    expected: dict[str, Any] = {
        "bridge_draining": {(): 0},
        "bridge_overloaded": {(): 1},
        "bridge_loop_lag_seconds": {(): 0.012},
        "bridge_conversations_bytes": {(): 7},
        "bridge_peers": {(): 1},
        "bridge_connections_refused_total": {(): 3},
        "bridge_log_lines_dropped_total": {(): 4},
        "bridge_late_ticks_total": {("webrtc",): 5, ("telephony",): 10},
        "bridge_datagrams_dropped_total": {("bad_stun",): 6},
        "bridge_telephony_refused_total": {("twilio", "invalid_signature"): 8},
        "bridge_telephony_faults_total": {("odd_sound",): 9},
        "bridge_telephony_hang_ups_failed_total": {(): 11},
        "bridge_upstream_dials_total": {("cloud",): 12},
        "bridge_upstream_dial_failures_total": {("cloud",): 13},
        "bridge_upstream_lost_total": {("cloud",): 14},
        "bridge_upstream_renewals_total": {("cloud",): 15},
        "bridge_upstream_given_up_total": {("cloud",): 16},
    }
    assert {name: found[name] for name in expected} == expected


async def test_a_call_that_ends_while_metrics_are_read_is_counted_once(house: House) -> None:
    """Reading gives way to others; what closes meanwhile is neither left out nor read twice."""

    sessions = [house.call()[0] for _ in range(5)]
    house.metrics.unit = 1
    async with asyncio.TaskGroup() as tasks:
        reading = tasks.create_task(house.figures())
        await asyncio.sleep(0)  # two calls are read
        sessions[0].close("hangup")
        sessions[-1].close("hangup")
        await asyncio.gather(_over(sessions[0]), _over(sessions[-1]))
    found = reading.result()
    assert found["bridge_rtp_packets_received_total"] == {(): 5000}
    assert sum(found["bridge_calls_closed_total"].values()) == 2
    assert (await house.figures())["bridge_rtp_packets_received_total"] == {(): 5000}
