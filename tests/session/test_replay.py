"""The newest events of a session, kept within bounds for those whose connection broke."""

import base64
import json
import tracemalloc

import pytest

from bridge.errors import BadRequest, ResumeGap
from bridge.session.fanout import kept_sound
from bridge.session.fanout.kept_sound import KeptSound
from bridge.session.fanout.replay import DialectEvent, KeptEvent, Replay
from bridge.wire.audio import PCM16
from bridge.wire.codecs.ga import GA
from bridge.wire.message import EncodedMessage
from bridge.wire.stats import Dialect

PREFIX = "event_abc_"
INPUT = f"{PREFIX}input_pcm16_"
_WRITER = GA.sound("input").writer("input", PCM16, INPUT, None)


class Tape:
    """A replay and whatever goes into it, by name."""

    def __init__(self, *, max_bytes: int = 10_000, max_events: int = 100) -> None:
        self.now = 100.0
        self.replay = Replay(
            PREFIX, max_bytes=max_bytes, max_events=max_events, max_sound_s=10.0, clock=lambda: self.now
        )
        self._sounds = 0

    def event(self, size: int = 10) -> str:
        event_id = self.replay.next_id()
        self.replay.keep(KeptEvent(self.replay.number, "any", EncodedMessage(b"x" * size, event_id=event_id)))
        return event_id

    def told(self) -> str:
        return self.replay.next_id()

    def sound(self, size: int = 10) -> str:
        self._sounds += 1
        self.replay.keep_sound(INPUT, self._sounds, _WRITER, 480 * self._sounds, b"x" * size, 20)
        return f"{INPUT}{self._sounds}"

    def since(self, event_id: str) -> list[str]:
        return [kept.message.event_id for kept in self.replay.since(self.replay.find(event_id))]


def test_everything_after_an_event_in_its_order() -> None:
    """Whichever event was the last, sound or not, what follows is all that came after, once."""
    tape = Tape()
    came = [tape.event()]
    for number in range(12):
        came += [tape.sound(), tape.sound()] if number % 3 else [tape.event(), tape.sound(), tape.event()]
    for at, event_id in enumerate(came):
        assert tape.since(event_id) == came[at + 1 :]


def test_what_was_told_to_one_is_a_place_too() -> None:
    """An event that only this listener had is not kept, and marks where it stopped all the same."""
    tape = Tape()
    tape.event()
    told = tape.told()
    after = [tape.sound(), tape.event()]
    assert tape.since(told) == after
    last = tape.told()
    assert tape.since(last) == []


@pytest.mark.parametrize(("max_bytes", "max_events"), [(100, 1000), (10_000, 10)])
def test_the_oldest_events_give_way(max_bytes: int, max_events: int) -> None:
    """Over either limit the oldest go; behind what is gone there is no resuming, and the error says so."""
    tape = Tape(max_bytes=max_bytes, max_events=max_events)
    came = [tape.event() for _ in range(25)]
    assert tape.since(came[14]) == came[15:]
    with pytest.raises(ResumeGap, match="no longer kept") as caught:
        tape.since(came[13])
    assert (caught.value.code, caught.value.http_status, caught.value.param) == ("resume_gap", 410, "after")


def test_both_dialects_count() -> None:
    """Where beta is spoken as well, an event takes the room of both texts."""
    replay = Replay(PREFIX, max_bytes=100)
    others = {Dialect.BETA: DialectEvent("any", EncodedMessage(b"x" * 15))}
    ids = []
    for _ in range(10):
        ids.append(replay.next_id())
        replay.keep(KeptEvent(replay.number, "any", EncodedMessage(b"x" * 10), others))
    assert len(list(replay.since(replay.find(ids[5])))) == 4
    with pytest.raises(ResumeGap):
        replay.find(ids[4])


def test_sound_has_a_limit_of_its_own() -> None:
    """Sound pushes no control event out; where some of it is gone, the rest follows."""
    tape = Tape(max_bytes=100)
    first = tape.event()
    sounds = [tape.sound() for _ in range(25)]
    last = tape.event()
    assert tape.since(first) == [*sounds[15:], last]
    assert tape.since(sounds[20]) == [*sounds[21:], last]
    assert tape.since(sounds[3]) == [*sounds[15:], last]


def test_sound_has_a_limit_in_time_too() -> None:
    """What came more than ten seconds ago goes with the next sound that comes; control events stay."""
    tape = Tape()
    first = tape.event()
    sounds = []
    for _ in range(30):
        sounds.append(tape.sound())
        tape.now += 1.0
    last = tape.sound()
    assert tape.since(first) == [*sounds[20:], last]
    assert tape.replay.kept_bytes == 10 + 11 * 10
    assert tape.since(sounds[3]) == [*sounds[20:], last]


def test_silence_takes_no_room() -> None:
    """Of sound that is nothing but zeros only the length is kept; who comes back hears it like any other."""
    tape = Tape(max_bytes=100)
    first = tape.event()
    for number in range(1, 31):
        tape.replay.keep_sound(INPUT, number, _WRITER, 480 * number, bytes(960), 20)
    told = [kept.message for kept in tape.replay.since(tape.replay.find(first))]
    assert [message.event_id for message in told] == [f"{INPUT}{number}" for number in range(1, 31)]
    assert {base64.b64decode(json.loads(message.payload)["audio"]) for message in told} == {bytes(960)}
    assert tape.replay.kept_bytes == 10


def test_what_was_lost_has_a_limit_in_number(monkeypatch: pytest.MonkeyPatch) -> None:
    """Packets that were lost have no bytes, and are not kept without end either."""
    monkeypatch.setattr(kept_sound, "_MAX_SOUNDS", 5)
    tape = Tape()
    first = tape.event()
    sounds = [tape.sound(0) for _ in range(30)]
    assert tape.since(first) == sounds[25:]


def test_an_event_over_the_limit_is_kept_by_nobody() -> None:
    """One that is larger than all room makes a gap, and those after it are kept again."""
    tape = Tape(max_bytes=100)
    before = tape.event()
    large = tape.event(101)
    after = tape.event()
    with pytest.raises(ResumeGap):
        tape.since(before)
    assert tape.since(large) == [after]


def test_nothing_is_kept_without_room() -> None:
    """With 0 bytes only the very last event can be gone on from."""
    tape = Tape(max_bytes=0)
    first, sound, second = tape.event(), tape.sound(), tape.event()
    for event_id in (first, sound):
        with pytest.raises(ResumeGap):
            tape.since(event_id)
    assert tape.since(second) == []


@pytest.mark.parametrize(
    "event_id",
    ["", "event_abc_", "event_abc_0", "event_abc_3", "event_abc_x", "event_abc_²", "event_xyz_1", "lst_1", "1" * 400,
     "event_abc_" + "9" * 19, "event_abc_-1"],
)  # fmt: skip
def test_no_such_event(event_id: str) -> None:
    """What was never an event of this call is not the beginning of anything."""
    tape = Tape()
    tape.event()
    tape.event()
    with pytest.raises(BadRequest) as caught:
        tape.since(event_id)
    assert caught.value.param == "after"


def test_behind_sound_that_is_gone() -> None:
    """Its place among the control events is known for as long as those are kept: none is missed or comes twice."""
    tape = Tape(max_bytes=100)
    came = [tape.event(4)]
    for _ in range(8):
        came += [tape.sound(30), tape.sound(30), tape.event(4)]
    sounds = [event_id for event_id in came if event_id.startswith(INPUT)]
    gone = set(sounds[:-3])
    for at, event_id in enumerate(came):
        assert tape.since(event_id) == [later for later in came[at + 1 :] if later not in gone]
    for _ in range(25):
        tape.event(4)
    with pytest.raises(ResumeGap):
        tape.since(came[1])


@pytest.mark.parametrize("event_id", [f"{PREFIX}output_pcm16_1", f"{INPUT}0", f"{INPUT}2"])
def test_sound_that_never_was(event_id: str) -> None:
    """Of no stream, or of a number that has not come."""
    tape = Tape()
    tape.event()
    tape.sound()
    with pytest.raises(BadRequest):
        tape.since(event_id)


def test_kinds() -> None:
    """Control events and sound are told apart."""
    tape = Tape()
    first = tape.event()
    tape.sound()
    tape.event()
    kinds = [type(kept) for kept in tape.replay.since(tape.replay.find(first))]
    assert kinds == [KeptSound, KeptEvent]


def test_nothing_is_kept_for_nobody() -> None:
    """Once cleared it holds nothing, says so of what came before, and goes on."""
    tape = Tape()
    first, second, _ = tape.event(), tape.event(), tape.sound()
    assert tape.replay.kept_bytes == 30
    tape.replay.clear()
    assert tape.replay.kept_bytes == 0
    with pytest.raises(ResumeGap):
        tape.replay.find(first)
    assert list(tape.replay.since(tape.replay.find(second))) == []
    behind = tape.event()
    assert [kept.message.event_id for kept in tape.replay.since(tape.replay.find(second))] == [behind]


def test_who_stopped_in_another_process_goes_on_here() -> None:
    """Behind whichever event of the process before, it hears all that comes here, under ids of its own."""
    before = Tape()
    had = [before.event(), before.sound(), before.event(), before.event()]
    here = Tape()
    here.replay.skip_to(2)  # the third event was sent and not noted
    assert here.replay.moved_behind == f"{PREFIX}2"
    came = [here.event() for _ in range(3)]
    for event_id in had:
        assert here.since(event_id) == came
    assert here.since(came[0]) == came[1:]
    assert not {*had} & {*came}
    with pytest.raises(BadRequest):
        here.replay.find(f"{PREFIX}999999999")


def test_nothing_comes_twice_though_runs_of_two_streams_overlap() -> None:
    """Sound is kept half a second in one piece. Where one stream's piece is gone, the other's is not sent again."""
    tape = Tape(max_bytes=10_000_000)
    output = f"{PREFIX}output_pcm16_"
    writer = GA.sound("output").writer("output", PCM16, output, None)
    came = [tape.event()]
    for number in range(1, 701):
        tape.now += 0.02
        came.append(tape.sound(960))
        if number > 7:
            tape.replay.keep_sound(output, number - 7, writer, 0, b"y" * 960, 20)
            came.append(f"{output}{number - 7}")
    kept = tape.since(came[0])
    assert came[-len(kept) :] == kept
    assert 2 * 500 <= len(kept) <= 2 * 530
    for at, event_id in enumerate(came[:-1]):
        later, after = tape.since(event_id), came[at + 1 :]
        whole = min(len(after), len(kept))
        assert later[-whole:] == after[-whole:]
        told = set(later)
        assert later == [each for each in after if each in told]


def test_pieces_are_as_they_were() -> None:
    """Whatever their sizes, small ones in one run, large ones by themselves, silence and losses between."""
    tape = Tape(max_bytes=1_000_000)
    first = tape.event()
    sounds = [
        bytes([1 + number % 250]) * size for number, size in enumerate([960, 0, 480, 1, 4800, 960, 960, 96_000, 2])
    ]
    sounds.insert(3, bytes(960))
    for number, sound in enumerate(sounds, 1):
        tape.replay.keep_sound(INPUT, number, _WRITER, 480 * number, sound, 20)
    kept = list(tape.replay.since(tape.replay.find(first)))
    assert [each.sound for each in kept if isinstance(each, KeptSound)] == sounds
    assert [each.timestamp for each in kept if isinstance(each, KeptSound)] == [480 * n for n in range(1, 11)]
    assert tape.replay.kept_bytes == 10 + sum(map(len, sounds)) - 960


def test_room_is_made_by_what_ended_first() -> None:
    """An answer that comes all at once pushes out what is older than it, and is kept itself as far as there is room."""
    tape = Tape(max_bytes=1_000_000)
    output = f"{PREFIX}output_pcm16_"
    writer = GA.sound("output").writer("output", PCM16, output, None)
    first = tape.event()
    tape.sound(960)
    for number in range(1, 221):
        tape.replay.keep_sound(output, number, writer, 0, b"y" * 4800, 100)
    tape.sound(960)
    since = tape.since(first)
    assert tape.replay.kept_bytes > 990_000
    assert len(since) >= 200
    assert since[-2:] == [f"{output}220", f"{INPUT}2"]


@pytest.mark.parametrize(("replay_s", "most"), [(0.0, 1), (0.1, 7), (1.0, 57)])
def test_a_short_time_is_kept_short(replay_s: float, most: int) -> None:
    """Half a second in one piece is for ten seconds; of a shorter time it is as small a part."""
    now = 100.0
    replay = Replay(PREFIX, max_bytes=1_000_000, max_sound_s=replay_s, clock=lambda: now)
    replay.keep(KeptEvent(1, "any", EncodedMessage(b"x", event_id=replay.next_id())))
    for number in range(1, 501):
        now += 0.02
        replay.keep_sound(INPUT, number, _WRITER, 480 * number, b"x" * 960, 20)
    kept = list(replay.since(replay.find(f"{PREFIX}1")))
    assert replay_s / 0.02 <= len(kept) <= most


def test_silence_without_room_takes_none() -> None:
    """With 0 bytes, events of silence are one run, and not an object for each."""
    tape = Tape(max_bytes=0)
    tracemalloc.start()
    try:
        for number in range(1, 10_001):
            tape.replay.keep_sound(INPUT, number, _WRITER, 480 * number, bytes(960), 20)
        assert tracemalloc.get_traced_memory()[0] < 1_000_000
    finally:
        tracemalloc.stop()
