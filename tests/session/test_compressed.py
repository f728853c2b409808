"""Listeners that take Opus or MP3: the caller's own packets, an answer encoded once, and the replay as for samples."""

import base64
from collections.abc import Callable
from typing import Any

import pytest
from msgspec import to_builtins

from bridge.media.contracts import LegOwner
from bridge.media.inbound import InboundAudio
from bridge.media.opus import OpusDecoder, OpusEncoder, new_decoder
from bridge.media.passing import PacketReader, PassedPacket, PassedPacketTaker
from bridge.media.playback import Part
from bridge.session.fanout.backlog import Limits
from bridge.session.fanout.listener import Listener
from bridge.wire.audio import G711_ULAW, OPUS, PCM16, SESSION_HZ, AudioFormat, mp3_at
from bridge.wire.binary import BinarySound, unpack_sound
from bridge.wire.choices import Choices
from bridge.wire.stats import WEBRTC, Dialect, Framing, ListenerRole
from tests.fakes import FakeLeg, FakeSink, JsonEvent, RtpSender, likeness
from tests.media.test_compress import decode_mp3
from tests.session.stage import MS, PART, Call, Stage
from tests.session.test_sound import encoded

_APPEND, _DELTA = "input_audio_buffer.append", "response.output_audio.delta"


class PeerLeg(FakeLeg):
    """A peer whose Opus is received by the bridge's own receiver."""

    def __init__(self, owner: LegOwner) -> None:
        super().__init__(owner)
        self.passage = self
        self.inbound = InboundAudio(new_decoder(SESSION_HZ), payload_type=111, rate_hz=SESSION_HZ)
        self.now = 0.0
        self.takes_packets = True

    def send(self, packets: list[bytes]) -> None:
        """Packets arrive, 20 ms apart."""
        for packet in packets:
            pcm = self.inbound.receive_rtp(packet, self.now)
            self.now += 0.02
            if pcm and not self.inbound.is_mute:
                self._owner.receive_leg_audio(pcm)

    def pass_to(self, taker: PassedPacketTaker | None, *, decodes: bool) -> None:
        self.inbound.pass_to(taker, decodes=decodes)

    def read_packets(self, reader: PacketReader | None) -> None:
        self.inbound.reader = reader

    def forward(self, part: Part | None, passed: PassedPacket) -> bool:
        return self.takes_packets


class PassingService:
    """An upstream that takes the caller's packets as they are, and whose answers are passed on."""

    def __init__(self) -> None:
        self.packets: list[PassedPacket] = []
        self.decodes = True
        self.reader: Callable[[Part, PassedPacket], None] | None = None
        self._taker: Callable[[Part, PassedPacket], bool] | None = None

    def forward(self, passed: PassedPacket) -> bool:
        self.packets.append(passed)
        return True

    def pass_answers_to(
        self,
        taker: Callable[[Part, PassedPacket], bool] | None,
        *,
        decodes: bool,
        reader: Callable[[Part, PassedPacket], None] | None = None,
    ) -> None:
        self.decodes, self.reader, self._taker = decodes, reader, taker

    def answer(self, part: Part, packet: PassedPacket) -> None:
        """A packet of an answer."""
        assert self._taker is not None
        if self._taker(part, packet) and self.reader is not None:
            self.reader(part, packet)


def peer_call(*, limits: Limits | None = None) -> tuple[Stage, PeerLeg]:
    stage = Stage(transport=WEBRTC, limits=limits)
    port = stage.session.legs.new_port()
    leg = PeerLeg(port)
    stage.session.legs.connect_leg(leg, port)
    leg.connect()
    return stage, leg


def join(
    stage: Stage, audio: AudioFormat = OPUS, *, dialect: Dialect = Dialect.GA, room: int | None = None, **choices: Any
) -> tuple[Listener, FakeSink]:
    sink = FakeSink(room)
    listener = stage.session.audience.attach(
        sink, role=ListenerRole.OBSERVER, dialect=dialect, choices=Choices(audio=audio, **choices)
    )
    return listener, sink


def frames(sink: FakeSink) -> list[BinarySound]:
    return [unpack_sound(message.payload) for message in sink.messages if message.is_binary]


def packets_of(events: list[JsonEvent], field: str = "audio") -> list[bytes]:
    return [base64.b64decode(event[field]) for event in events]


def decoded(packets: list[bytes]) -> bytes:
    decoder = new_decoder(SESSION_HZ)
    return b"".join(decoder.decode(packet) for packet in packets)


def fail(*_: object) -> bytes:
    pytest.fail("nothing is to be done to the sound")


# The caller's own packets


def test_the_callers_packets_as_they_came(speech_pcm: bytes) -> None:
    """In order, one a message, byte for byte; binary ones with when they sound, JSON ones in a field as well."""
    stage, leg = peer_call()
    _, in_json = join(stage, tracks=("input",))
    _, in_binary = join(stage, framing=Framing.BINARY)
    sent = RtpSender().talk(speech_pcm[: 960 * 50])
    leg.send([sent[0], sent[2], sent[1], *sent[3:]])
    payloads = [packet[12:] for packet in sent]
    events = in_json.of_type(_APPEND)
    assert packets_of(events) == payloads
    assert [event["timestamp"] for event in events] == [960 * number for number in range(50)]
    assert [event["event_id"].rpartition("_opus_")[2] for event in events] == [str(number) for number in range(1, 51)]
    assert [
        (frame.track, frame.audio_format, frame.sequence, frame.timestamp, frame.sound) for frame in frames(in_binary)
    ] == [("input", OPUS, number + 1, 960 * number, payload) for number, payload in enumerate(payloads)]


def test_a_lost_packet_is_marked(speech_pcm: bytes) -> None:
    """A message without a packet stands where it was; a pause of the sender's shows in the time alone."""
    stage, leg = peer_call()
    _, in_json = join(stage)
    _, in_binary = join(stage, framing=Framing.BINARY)
    sender = RtpSender()
    sent = sender.talk(speech_pcm[: 960 * 20])
    leg.send(sent[:10] + sent[13:])
    sender.rtp_timestamp += 4800
    leg.send(sender.talk(speech_pcm[: 960 * 2]))
    sounds = frames(in_binary)
    assert [frame.sound for frame in sounds[:10]] == [packet[12:] for packet in sent[:10]]
    assert (sounds[10].sound, sounds[10].timestamp, sounds[11].timestamp) == (b"", 9600, 13 * 960)
    assert sounds[11].sound == sent[13][12:]
    assert [frame.timestamp for frame in sounds[-3:]] == [19 * 960, 20 * 960 + 4800, 21 * 960 + 4800]
    assert all(frame.sound for frame in sounds[11:])
    assert [frame.sequence for frame in sounds] == list(range(1, len(sounds) + 1))
    lost = in_json.of_type(_APPEND)[10]
    assert (lost["audio"], lost["timestamp"]) == ("", 9600)


def test_a_long_loss_counts_little_for_a_backlog(speech_pcm: bytes) -> None:
    """A sender that says that minutes are missing does not push out what waits for a slow listener."""
    stage, leg = peer_call(limits=Limits(backlog_ms=5000))
    listener, sink = join(stage, room=1, tracks=("input",))
    sender = RtpSender()
    sent = sender.talk(speech_pcm[: 960 * 20])
    leg.send(sent)
    sender.sequence, sender.rtp_timestamp = sender.sequence + 20, sender.rtp_timestamp + 48_000 * 300
    leg.now += 300
    leg.send(sender.talk(speech_pcm[: 960 * 20]))
    for _ in range(60):
        sink.read()
    sounds = sink.of_type(_APPEND)
    assert listener.dropped_events == 0
    assert (sounds[20]["audio"], sounds[20]["timestamp"]) == ("", 960 * 20)
    assert sounds[21]["timestamp"] == 960 * 20 + 48_000 * 300


def test_nothing_is_decoded_or_encoded_for_them(speech_pcm: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the caller's packets go to the service as they are, listeners of Opus get them for nothing."""
    sent = RtpSender().talk(speech_pcm[: 960 * 30])
    stage, leg = peer_call()
    service = PassingService()
    stage.upstream.passage = service
    _, sink = join(stage, tracks=("input",))
    monkeypatch.setattr(OpusDecoder, "decode", fail)
    monkeypatch.setattr(OpusEncoder, "encode", fail)
    leg.send(sent)
    assert leg.inbound.is_mute
    assert not service.decodes
    assert packets_of(sink.of_type(_APPEND)) == [packet.payload for packet in service.packets]
    assert len(service.packets) == 30


def test_who_wants_samples_gets_them_beside(speech_pcm: bytes) -> None:
    """A listener of PCM that comes makes the bridge decode, and changes nothing for the others."""
    sent = RtpSender().talk(speech_pcm[: 960 * 60])
    stage, leg = peer_call()
    stage.upstream.passage = PassingService()
    _, in_opus = join(stage)
    leg.send(sent[:20])
    _, in_pcm = join(stage, PCM16)
    leg.send(sent[20:])
    assert not leg.inbound.is_mute
    assert packets_of(in_opus.of_type(_APPEND)) == [packet[12:] for packet in sent]
    heard = b"".join(packets_of(in_pcm.of_type(_APPEND)))
    assert likeness(heard, speech_pcm[960 * 20 : 960 * 60])[0] > 0.9


def test_packets_are_no_longer_read_when_nobody_has_wanted_them_for_a_while(speech_pcm: bytes) -> None:
    """A listener may come back within ten seconds, and has missed nothing; then they are let alone."""
    sent = RtpSender().talk(speech_pcm[: 960 * 150]) * 10
    sender = RtpSender()
    sent = [sender.send(packet[12:]) for packet in sent]
    stage, leg = peer_call()
    listener, sink = join(stage)
    leg.send(sent[:10])
    stage.session.detach(listener)
    leg.send(sent[10:20])
    after = sink.of_type(_APPEND)[-1]["event_id"]
    listener, again = join(stage, after=after)
    leg.send(sent[20:30])
    assert packets_of(again.of_type(_APPEND)) == [packet[12:] for packet in sent[10:30]]
    stage.session.detach(listener)
    leg.send(sent[30:500])
    assert leg.inbound.reader is not None
    leg.send(sent[500:600])
    assert leg.inbound.reader is None


def test_an_answer_that_is_passed_on_is_neither_decoded_nor_encoded(
    speech_pcm: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its packets come as they are, one answer close behind the other; one that is not passed on is encoded."""
    stage, leg = peer_call()
    service = PassingService()
    stage.upstream.passage = service
    _, in_json = join(stage, tracks=("output",))
    _, in_binary = join(stage, tracks=("output",), framing=Framing.BINARY)
    payloads = [packet[12:] for packet in RtpSender().talk(speech_pcm[: 960 * 30])]
    with monkeypatch.context() as patch:
        patch.setattr(OpusEncoder, "encode", fail)
        for number, payload in enumerate(payloads):
            place = number if number < 20 else number + 500  # silence between the answers is not read
            part = Part(f"resp_{number // 20}", "item", 0, 0)
            service.answer(part, PassedPacket(payload, 9, place, 960 * place, False))
    assert not service.decodes
    events = in_json.of_type(_DELTA)
    assert packets_of(events, "delta") == payloads
    assert [event["response_id"] for event in events] == ["resp_0"] * 20 + ["resp_1"] * 10
    assert [(frame.timestamp, frame.sound) for frame in frames(in_binary)] == [
        (960 * number, payload) for number, payload in enumerate(payloads)
    ]
    leg.takes_packets = False
    service.answer(Part("resp_2", "item", 0, 0), PassedPacket(payloads[0], 9, 900, 0, False))
    stage.answer(speech_pcm[: 100 * MS], Part("resp_2", "item", 0, 0))
    assert [event["response_id"] for event in in_json.of_type(_DELTA)[30:]] == ["resp_2"] * 5
    assert [frame.timestamp for frame in frames(in_binary)[30:]] == [960 * number for number in range(30, 35)]


def test_a_listener_of_samples_beside_changes_nothing(speech_pcm: bytes) -> None:
    """While an answer is passed on and decoded for somebody else, listeners of Opus get its packets, and each once."""
    stage, _ = peer_call()
    service = PassingService()
    stage.upstream.passage = service
    _, in_opus = join(stage, tracks=("output",))
    _, in_pcm = join(stage, PCM16, tracks=("output",))
    assert service.decodes
    payloads = [packet[12:] for packet in RtpSender().talk(speech_pcm[: 960 * 20])]
    for number, payload in enumerate(payloads):
        service.answer(PART, PassedPacket(payload, 9, number, 960 * number, False))
        stage.answer(speech_pcm[960 * number : 960 * (number + 1)])
    stage.finish_answer()
    assert packets_of(in_opus.of_type(_DELTA), "delta") == payloads
    assert b"".join(packets_of(in_pcm.of_type(_DELTA), "delta")) == speech_pcm[: 960 * 20]


# What is encoded


def test_an_answer_is_encoded_once_for_all(speech_pcm: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """However they want it written; each part to its end, and the packets of one never in another."""
    encodings = []
    encode = OpusEncoder.encode

    def counted(self: OpusEncoder, pcm: bytes) -> bytes:
        encodings.append(len(pcm))
        return encode(self, pcm)

    stage, _ = peer_call()
    sinks = [join(stage)[1], join(stage)[1]]
    _, in_beta = join(stage, dialect=Dialect.BETA)
    _, in_binary = join(stage, framing=Framing.BINARY)
    monkeypatch.setattr(OpusEncoder, "encode", counted)
    stage.answer(speech_pcm[: 1010 * MS])
    stage.finish_answer()
    stage.answer(speech_pcm[: 500 * MS], Part("resp_2", "item_2", 0, 0))
    stage.finish_answer("resp_2")
    assert len(encodings) == 51 + 25
    events = sinks[0].of_type(_DELTA)
    assert events == sinks[1].of_type(_DELTA)
    assert [event["item_id"] for event in events] == ["item_1"] * 51 + ["item_2"] * 25
    packets = packets_of(events, "delta")
    assert packets == packets_of(in_beta.of_type("response.audio.delta"), "delta")
    assert packets == [frame.sound for frame in frames(in_binary)]
    assert [frame.timestamp for frame in frames(in_binary)] == [960 * number for number in range(76)]
    assert {frame.track for frame in frames(in_binary)} == {"output"}
    assert likeness(decoded(packets[:51]), speech_pcm[: 1010 * MS])[0] > 0.9
    assert sum(map(len, packets)) < 1520 * MS / 10


@pytest.mark.parametrize("leg_format", [None, PCM16, G711_ULAW], ids=["websocket", "pcm16", "g711"])
def test_a_caller_without_opus_is_encoded_once(
    leg_format: AudioFormat | None, speech_pcm: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By WebSocket or by telephone: one encoder for all who listen in Opus."""
    made: list[OpusEncoder] = []
    encode = OpusEncoder.encode

    def counted(self: OpusEncoder, pcm: bytes) -> bytes:
        made.append(self)
        return encode(self, pcm)

    monkeypatch.setattr(OpusEncoder, "encode", counted)
    stage: Stage = Stage() if leg_format is None else Call(leg_format=leg_format).connect()
    owner, _ = stage.attach("owner")
    _, in_json = join(stage, tracks=("input",))
    _, in_binary = join(stage, tracks=("input",), framing=Framing.BINARY)
    spoken = speech_pcm[: 2000 * MS]
    sound = spoken if leg_format in (None, PCM16) else encoded(G711_ULAW, spoken)
    for at in range(0, len(sound), len(sound) // 100):
        piece = sound[at : at + len(sound) // 100]
        if isinstance(stage, Call):
            stage.leg.speak(piece)
        else:
            stage.send(owner, {"type": _APPEND, "audio": base64.b64encode(piece).decode()})
    stage.session.close("hangup")
    packets = packets_of(in_json.of_type(_APPEND))
    assert packets == [frame.sound for frame in frames(in_binary)]
    assert (len(set(map(id, made))), len(made)) == (1, len(packets))
    assert 100 <= len(packets) <= 101
    assert likeness(decoded(packets), spoken)[0] > 0.9


@pytest.mark.parametrize("rate_hz", [24_000, 44_100])
@pytest.mark.parametrize("framing", list(Framing))
def test_mp3(rate_hz: int, framing: Framing, speech_pcm: bytes) -> None:
    """One frame a message, on both tracks, whole to the end of a part and of the call."""
    audio_format = mp3_at(rate_hz)
    call = Call().connect()
    _, sink = join(call, audio_format, framing=framing)
    for at in range(0, 1000 * MS, 20 * MS):
        call.leg.speak(speech_pcm[at : at + 20 * MS])
    call.answer(speech_pcm[: 1000 * MS])
    call.finish_answer()
    call.session.close("hangup")
    for track, name, field in (("input", _APPEND, "audio"), ("output", _DELTA, "delta")):
        if framing is Framing.BINARY:
            sounds = [frame for frame in frames(sink) if frame.track == track]
            heard, times = [frame.sound for frame in sounds], [frame.timestamp for frame in sounds]
            assert {frame.audio_format for frame in sounds} == {audio_format}
        else:
            events = sink.of_type(name)
            heard, times = packets_of(events, field), [event["timestamp"] for event in events]
        samples = 576 if rate_hz == 24_000 else 1152
        assert times == [samples * number for number in range(len(heard))]
        pcm = decode_mp3(heard, rate_hz)
        assert len(pcm) // 2 >= rate_hz + 1105  # what the encoder and decoder are late


# Replay and backlog


@pytest.mark.parametrize("audio_format", [OPUS, mp3_at(24_000)], ids=lambda each: each.name)
@pytest.mark.parametrize("framing", list(Framing))
def test_who_comes_back_misses_nothing(audio_format: AudioFormat, framing: Framing, speech_pcm: bytes) -> None:
    """``after=`` goes on behind the last packet: each once, in order, numbers without a gap."""
    call = Call().connect()
    listener, sink = join(call, audio_format, framing=framing)
    _, whole = join(call, audio_format, framing=framing)
    call.answer(speech_pcm[: 600 * MS])
    call.session.detach(listener)
    call.answer(speech_pcm[600 * MS : 1200 * MS])
    call.finish_answer()
    _, again = join(call, audio_format, framing=framing, after=listener.last_event_id)
    call.answer(speech_pcm[: 400 * MS], Part("resp_2", "item_2", 0, 0))
    call.finish_answer("resp_2")
    had = [message.event_id for message in (*sink.messages, *again.messages) if message.audio_ms]
    assert had == [message.event_id for message in whole.messages if message.audio_ms]
    assert len(had) == len(set(had)) >= 60


def test_a_slow_listener_loses_the_oldest_packets_and_is_told(speech_pcm: bytes) -> None:
    """By how many, and how long they were; the numbers show where."""
    stage, leg = peer_call(limits=Limits(backlog_ms=400))
    _, sink = join(stage, room=3, tracks=("input",))
    leg.send(RtpSender().talk(speech_pcm[: 960 * 60]))
    for _ in range(60):
        sink.read()
    [told] = sink.of_type("bridge.listener.dropped")
    assert told["audio_ms"] == 20 * told["events"]
    assert told["events"] > 30


def test_a_call_says_what_a_listener_hears() -> None:
    """As everybody's choices are told."""
    stage, _ = peer_call()
    join(stage, mp3_at(44_100))
    described: Any = to_builtins(stage.session.stats())
    assert [listener["audio"] for listener in described["listeners"]] == ["mp3_44100"]
