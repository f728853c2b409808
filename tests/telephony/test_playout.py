"""What a carrier is sent and when, and what is known to have been heard."""

import pytest

from bridge.media.playback import Heard, Part, Played, Started, Stopped
from bridge.telephony.dialect import Traits
from bridge.telephony.playout import CarrierPlayout, Piece
from bridge.wire.audio import G711_ALAW, G711_ULAW, AudioFormat, pcm16_at

_PART, _NEXT = Part("resp_1", "item_1", 0, 0), Part("resp_2", "item_2", 0, 0)
_TWILIO = Traits(lead_ms=1000)
_AUDIOSOCKET = Traits(lead_ms=0, has_marks=False, wants_silence=True)
_TICK_S = 0.02


class _Line:
    """A carrier that plays what it gets, on the same clock as the bridge's."""

    def __init__(self, audio: CarrierPlayout, *, now: float = 100.0, has_marks: bool = True) -> None:
        self.audio = audio
        self.now = now
        self.pieces: list[Piece] = []
        self.events: list[Played] = []
        self.heard = b""
        self._buffer = b""
        self._marks: list[tuple[int, str | None]] = []
        self._has_marks = has_marks

    def run(self, duration_ms: int, frame_bytes: int = 160) -> "_Line":
        """So much time passes: a tick and a frame every 20 ms."""
        for _ in range(duration_ms // 20):
            pieces, events = self.audio.tick(self.now)
            self.pieces += pieces
            self.events += events
            for piece in pieces:
                self._buffer += piece.sound
                self._marks.append((len(self.heard) + len(self._buffer), piece.mark))
            self.now += _TICK_S
            self.heard += self._buffer[:frame_bytes]
            self._buffer = self._buffer[frame_bytes:]
            while self._marks and self._marks[0][0] <= len(self.heard):
                mark = self._marks.pop(0)[1]
                if mark is not None and self._has_marks:
                    self.events += self.audio.played(mark, self.now)
        return self


def _audio(traits: Traits = _TWILIO, audio_format: AudioFormat = G711_ULAW, *, limit_s: int = 60) -> CarrierPlayout:
    return CarrierPlayout(audio_format, traits, limit_s=limit_s)


def _sound(frames: int) -> bytes:
    return b"".join(bytes([number % 250]) * 160 for number in range(frames))


def test_sound_goes_out_ahead_of_its_time() -> None:
    """A second of it at once, the rest as it is played: the carrier always has a second."""
    audio = _audio()
    audio.push(_PART, _sound(500))
    pieces, _ = audio.tick(100.0)
    assert sum(len(piece.sound) for piece in pieces) == 8000 + 160
    assert [len(piece.sound) // 160 for piece in pieces][:3] == [1, 5, 5]
    assert audio.tick(100.0) == ([], [])
    assert len(audio.tick(100.5)[0]) == 5


def test_sound_arrives_whole_and_in_order() -> None:
    """With marks that name each piece once; the first frame goes alone."""
    audio = _audio()
    audio.push(_PART, _sound(200))
    line = _Line(audio).run(5000)
    assert line.heard.startswith(_sound(200))
    marks = [piece.mark for piece in line.pieces]
    assert len(set(marks)) == len(marks)
    assert audio.late_ms == 0


def test_started_and_stopped_come_from_marks() -> None:
    """Started with the first one, stopped with the last, not with the sending."""
    line = _Line(_audio())
    line.audio.push(_PART, _sound(50))
    line.run(20)
    assert line.events == [Started("resp_1")]
    line.audio.end("resp_1")
    line.run(960)
    assert line.events == [Started("resp_1")]
    line.run(20)
    assert line.events == [Started("resp_1"), Stopped("resp_1")]


def test_a_mark_confirms_all_before_it() -> None:
    """A carrier may leave some out; unknown ones say nothing."""
    audio = _audio()
    audio.push(_PART, _sound(11))
    pieces, _ = audio.tick(100.0)
    assert len(pieces) == 3
    assert audio.played("b99", 100.1) == []
    assert audio.played("", 100.1) == []
    audio.end("resp_1")
    assert audio.played(str(pieces[2].mark), 100.3) == [Started("resp_1"), Stopped("resp_1")]
    assert audio.played(str(pieces[0].mark), 100.4) == []


@pytest.mark.parametrize("heard_ms", [20, 60, 120, 200, 540, 980])
def test_clear_tells_what_was_heard(heard_ms: int) -> None:
    """To the frame, though marks are 100 ms apart."""
    audio = _audio()
    audio.push(_PART, _sound(500))
    line = _Line(audio).run(heard_ms)
    cut = audio.clear(line.now)
    assert cut is not None
    response_id, [heard] = cut
    assert response_id == "resp_1"
    assert heard.part == _PART
    assert abs(heard.audio_end_ms - heard_ms) <= 20


def test_what_was_not_confirmed_was_not_heard() -> None:
    """Whatever the clock says: no more than the piece behind the last mark; without any mark, the first."""
    audio = _audio()
    audio.push(_PART, _sound(500))
    audio.tick(100.0)
    assert audio.clear(104.0) == ("resp_1", [Heard(_PART, 20)])
    audio.push(_PART, _sound(500))
    pieces, _ = audio.tick(200.0)
    audio.played(str(pieces[1].mark), 200.2)
    assert audio.clear(204.0) == ("resp_1", [Heard(_PART, 220)])


def test_clear_before_anything_was_sent() -> None:
    """Nothing was heard of what only waited here."""
    audio = _audio()
    assert audio.clear(100.0) is None
    audio.push(_PART, _sound(10))
    assert audio.clear(100.0) == ("resp_1", [Heard(_PART, 0)])
    assert audio.tick(100.1) == ([], [])


def test_marks_after_clear_say_nothing() -> None:
    """The carrier sends back all that it threw away; that is not what was heard of the next answer."""
    audio = _audio()
    audio.push(_PART, _sound(100))
    pieces, _ = audio.tick(100.0)
    audio.clear(100.1)
    audio.push(_NEXT, _sound(100))
    fresh, _ = audio.tick(100.12)
    for piece in pieces:
        assert audio.played(str(piece.mark), 100.13) == []
    assert audio.played(str(fresh[0].mark), 100.14) == [Started("resp_2")]
    assert audio.clear(100.14) == ("resp_2", [Heard(_NEXT, 20)])


def test_after_clear_the_next_sound_goes_at_once() -> None:
    """The carrier's buffer is empty then."""
    audio = _audio()
    audio.push(_PART, _sound(500))
    audio.tick(100.0)
    audio.clear(100.02)
    audio.push(_NEXT, _sound(10))
    assert b"".join(piece.sound for piece in audio.tick(100.04)[0]) == _sound(10)


@pytest.mark.parametrize(
    ("audio_format", "silence"), [(G711_ULAW, b"\xff"), (G711_ALAW, b"\xd5"), (pcm16_at(16000), b"\0")]
)
def test_only_whole_frames_are_sent(audio_format: AudioFormat, silence: bytes) -> None:
    """The rest waits for more; at the end of the answer it is filled up with the format's own silence."""
    audio = _audio(audio_format=audio_format)
    size = audio_format.bytes_per_ms * 20
    audio.push(_PART, b"\x11" * (size + 100))
    assert [len(piece.sound) for piece in audio.tick(100.0)[0]] == [size]
    assert audio.tick(100.02) == ([], [])
    audio.push(_PART, b"\x11" * (size - 100))
    assert [len(piece.sound) for piece in audio.tick(100.04)[0]] == [size]
    audio.push(_PART, b"\x22" * 100)
    audio.end("resp_1")
    [piece] = audio.tick(100.06)[0]
    assert piece.sound == b"\x22" * 100 + silence * (size - 100)
    assert audio.played(str(piece.mark), 100.1) == [Started("resp_1"), Stopped("resp_1")]


def test_a_carrier_without_marks_is_believed_after_a_while() -> None:
    """Some clones send none: the answer ends all the same, seconds later."""
    audio = _audio()
    audio.push(_PART, _sound(50))
    audio.end("resp_1")
    line = _Line(audio, has_marks=False).run(5000)
    assert line.events == []
    line.run(2000)
    assert line.events == [Started("resp_1"), Stopped("resp_1")]


def test_lateness_is_counted() -> None:
    """The carrier had nothing to play though we had; a slow answer is no lateness of ours."""
    audio = _audio()
    audio.push(_PART, _sound(200))
    audio.tick(100.0)
    audio.tick(101.52)
    assert audio.late_ms == 500
    slow = _audio()
    for number in range(10):
        slow.push(_PART, _sound(1))
        slow.tick(100.0 + number)
    assert slow.late_ms == 0


def test_overflow_is_counted() -> None:
    """More than the limit is left out as a whole piece."""
    audio = _audio(limit_s=1)
    audio.push(_PART, _sound(40))
    audio.push(_PART, _sound(40))
    assert audio.overflow_ms == 800
    assert audio.queued_ms == 800


def test_what_a_lost_connection_had_is_sent_again() -> None:
    """What was confirmed is not; the ledger goes on where it was."""
    audio = _audio()
    audio.push(_PART, _sound(101) + b"x" * 80)
    audio.end("resp_1")
    line = _Line(audio).run(500)
    heard = line.heard
    audio.take_back()
    again = _Line(audio, now=line.now + 3).run(4000)
    assert len(heard) // 160 == 25
    assert again.heard.startswith(_sound(101)[21 * 160 :])
    assert again.heard.rstrip(b"\xff").endswith(b"x" * 80)
    assert again.events[-1] == Stopped("resp_1")
    assert audio.late_ms == 0


def test_without_a_buffer_each_frame_at_its_time() -> None:
    """AudioSocket: one frame a tick, silence where there is nothing, and what was sent was heard."""
    audio = _audio(_AUDIOSOCKET, pcm16_at(8000))
    assert audio.tick(100.0) == ([Piece(bytes(320), None)], [])
    audio.push(_PART, b"\x11" * 700)
    audio.end("resp_1")
    assert audio.tick(100.02) == ([Piece(b"\x11" * 320, None)], [Started("resp_1")])
    assert audio.clear(100.03) == ("resp_1", [Heard(_PART, 20)])
    assert audio.tick(100.04) == ([Piece(bytes(320), None)], [])
    audio.push(_NEXT, b"\x22" * 330)
    audio.end("resp_2")
    audio.tick(100.06)
    assert audio.tick(100.08) == ([Piece(b"\x22" * 10 + bytes(310), None)], [Stopped("resp_2")])


def test_pieces_fit_into_the_carriers_messages() -> None:
    """100 ms at 48 kHz are 9,600 bytes; a carrier that takes less gets less."""
    audio = _audio(Traits(lead_ms=1000, max_message_bytes=4000), pcm16_at(48000))
    audio.push(_PART, bytes(96_000))
    assert max(len(piece.sound) for piece in audio.tick(100.0)[0]) == 3840


# Carriers with wishes of their own


def test_marks_of_small_pieces_are_as_far_apart_as_those_of_large_ones() -> None:
    """A carrier that takes exactly one frame a message gets a mark every 100 ms, and behind the last of an answer."""
    audio = _audio(Traits(lead_ms=1000, piece_ms=20))
    audio.push(_PART, _sound(23))
    audio.end("resp_1")
    pieces, _ = audio.tick(100.0)
    assert [len(piece.sound) for piece in pieces] == [160] * 23
    assert [number for number, piece in enumerate(pieces) if piece.mark] == [0, 5, 10, 15, 20, 22]


@pytest.mark.parametrize("heard_ms", [20, 60, 120, 200, 540])
def test_clear_between_marks_of_small_pieces(heard_ms: int) -> None:
    """What was heard is known to the frame, also if the frames between two marks have none."""
    audio = _audio(Traits(lead_ms=1000, piece_ms=20))
    audio.push(_PART, _sound(500))
    line = _Line(audio).run(heard_ms)
    cut = audio.clear(line.now)
    assert cut is not None
    assert abs(cut[1][0].audio_end_ms - heard_ms) <= 20


@pytest.mark.parametrize("heard_ms", [20, 60, 120, 200, 540])
def test_a_carrier_with_a_buffer_and_no_marks(heard_ms: int) -> None:
    """It is fed ahead of its time, and the clock tells what was heard, to the frame."""
    audio = _audio(Traits(lead_ms=200, has_marks=False))
    audio.push(_PART, _sound(100))
    pieces, _ = audio.tick(100.0)
    assert sum(len(piece.sound) for piece in pieces) >= 160 * 10
    assert [piece.mark for piece in pieces] == [None] * len(pieces)
    audio = _audio(Traits(lead_ms=200, has_marks=False))
    audio.push(_PART, _sound(100))
    line = _Line(audio, has_marks=False).run(heard_ms)
    cut = audio.clear(line.now)
    assert cut is not None
    assert abs(cut[1][0].audio_end_ms - heard_ms) <= 20


def test_an_answer_to_a_carrier_without_marks_stops_when_it_has_been_heard() -> None:
    """Started with its first piece, stopped with its last, by the clock."""
    line = _Line(_audio(Traits(lead_ms=200, has_marks=False)), has_marks=False)
    line.audio.push(_PART, _sound(50))
    line.audio.end("resp_1")
    line.run(960)
    assert line.events == [Started("resp_1")]
    line.run(80)
    assert line.events == [Started("resp_1"), Stopped("resp_1")]
    assert line.heard.startswith(_sound(50))


def test_little_sound_is_held_back_until_there_is_more() -> None:
    """Of a carrier that refuses many small messages; the end of an answer goes as it is, in whole frames."""
    audio = _audio(Traits(lead_ms=400, has_marks=False, piece_ms=200, min_piece_ms=200))
    audio.push(_PART, _sound(9))
    assert audio.tick(100.0) == ([], [])
    audio.push(_PART, _sound(3))
    assert [len(piece.sound) for piece in audio.tick(100.02)[0]] == [1600]
    audio.push(_PART, b"\x01" * 50)
    assert audio.tick(100.04)[0] == []
    audio.end("resp_1")
    assert [len(piece.sound) for piece in audio.tick(100.06)[0]] == [480]
    audio.push(_NEXT, _sound(9))
    assert audio.tick(100.08)[0] == []


def test_silence_behind_an_answer() -> None:
    """A carrier that holds its last sound back gets silence behind it, which counts for nothing, and one more mark."""
    audio = _audio(Traits(lead_ms=1000, tail_ms=100))
    audio.push(_PART, _sound(5))
    assert len(audio.tick(100.0)[0]) == 2
    audio.end("resp_1")
    [tail], _ = audio.tick(100.02)
    assert tail.sound == b"\xff" * 800
    assert audio.tick(100.04)[0] == []
    assert audio.queued_ms == 100
    assert audio.played(str(tail.mark), 100.2) == [Started("resp_1"), Stopped("resp_1")]


def test_no_silence_behind_what_was_cut() -> None:
    """Nothing follows an answer that was thrown away."""
    audio = _audio(Traits(lead_ms=1000, tail_ms=100))
    audio.push(_PART, _sound(5))
    audio.tick(100.0)
    audio.clear(100.1)
    audio.end("resp_1")
    assert audio.tick(100.12) == ([], [])
