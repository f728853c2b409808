"""What a listener may choose on its URL, and the 400 that names a choice which is not possible."""

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches

from bridge.errors import BadRequest
from bridge.wire.audio import COMPRESSED, FORMATS, PCM16, RATES_HZ, AudioFormat, pcm16_at, stereo_at
from bridge.wire.dialects.beta import BETA_TYPES
from bridge.wire.own_events import server_event_types
from bridge.wire.stats import Framing

__all__ = ["CHOICES", "STOCK", "TRACKS", "Choices", "EventFilter", "parse_choices"]

TRACKS = ("input", "output")
CHOICES = (
    "audio",
    "rate",
    "channels",
    "compression",
    "latency",
    "chunk_ms",
    "chunk_size",
    "tracks",
    "events",
    "framing",
    "after",
)
"""The names of the choices on the URL; ``call_id`` and ``role`` come beside them."""

_LATENCIES_MS = {"low": 20, "balanced": 60, "high": 200}
_CHUNK_MS = (20, 1000)
_CHUNK_SIZES = ("1024", "2048", "4096")
_LENGTHS = ("latency", "chunk_ms", "chunk_size")
_OF_SOUND = ("rate", "channels", "compression", *_LENGTHS, "tracks", "framing")
_SOUND_EVENTS = ("input_audio_buffer.append", "response.output_audio.delta", "response.audio.delta")
_MAX_FILTER_CHARS = 4096


class EventFilter:
    """The control events that a listener wants.

    A pattern is a name, or a prefix that ends before a dot. A pattern that begins with ``!`` leaves events out, and has
    the last word.
    """

    def __init__(self, patterns: Iterable[str]) -> None:
        self.patterns = tuple(patterns)
        self._wanted = [pattern for pattern in self.patterns if not pattern.startswith("!")]
        self._unwanted = [pattern[1:] for pattern in self.patterns if pattern.startswith("!")]
        self._known: dict[str, bool] = {}

    def __contains__(self, name: str) -> bool:
        known = self._known.get(name)
        if known is None:
            is_wanted = not self._wanted or any(_fits(pattern, name) for pattern in self._wanted)
            known = is_wanted and not any(_fits(pattern, name) for pattern in self._unwanted)
            self._known[name] = known
        return known


def _fits(pattern: str, name: str) -> bool:
    return name == pattern or name.startswith(f"{pattern}.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Choices:
    """What a listener has chosen. The default is what stock clients expect: every control event, and no sound."""

    audio: AudioFormat | None = None
    chunk_ms: int | None = None
    """How many milliseconds of sound each event carries; None if it carries the sound as it comes."""
    chunk_size: int | None = None
    """How many bytes of sound each event carries, counted before base64; None if ``chunk_ms`` decides."""
    tracks: tuple[str, ...] = TRACKS
    events: EventFilter | None = None
    framing: Framing = Framing.JSON
    """How sound is written for the listener."""
    after: str | None = None
    """The id of the last event that a listener had, if it comes back."""

    def chunk_of(self, audio: AudioFormat) -> tuple[int, str] | None:
        """Returns how many bytes of ``audio`` each event carries, and the part of the events' ids that says so."""
        if self.chunk_size is not None:
            return self.chunk_size, f"{self.chunk_size}B"
        return None if self.chunk_ms is None else (audio.size_of(self.chunk_ms), f"{self.chunk_ms}ms")


STOCK = Choices()
"""The choices of a listener that has chosen nothing."""


def parse_choices(
    query: Iterable[tuple[str, str]], *, others: Iterable[str] = (), allowed: Iterable[str] = CHOICES
) -> Choices:
    """Returns the choices in a URL's query; raises ``BadRequest``. The query may also have the names in ``others``."""
    given: dict[str, str] = {}
    allowed = (*allowed, *others)
    for name, value in query:
        if name not in allowed:
            closest = get_close_matches(name, allowed, n=1)
            hint = f", did you mean '{closest[0]}'?" if closest else f"; there are {', '.join(allowed)}."
            raise BadRequest(f"Unknown parameter '{name[:64]}'{hint}", param=name[:64])
        if given.setdefault(name, value) != value:
            raise BadRequest(f"'{name}' is given twice, with different values.", param=name)
    audio = _audio(given)
    if audio is None:
        for name in _OF_SOUND:
            if name in given:
                raise BadRequest(f"'{name}' needs 'audio', which asks for sound.", param=name)
    lengths = [name for name in _LENGTHS if name in given]
    if len(lengths) > 1:
        raise BadRequest(f"'{lengths[0]}' and '{lengths[1]}' set the same thing; give one of them.", param=lengths[1])
    return Choices(
        audio=audio,
        chunk_ms=_chunk_ms(given),
        chunk_size=int(size) if (size := _one_of(given, "chunk_size", _CHUNK_SIZES)) else None,
        tracks=_tracks(given),
        events=_events(given),
        framing=Framing(_one_of(given, "framing", tuple(Framing)) or Framing.JSON),
        after=given.get("after"),
    )


def _one_of(given: dict[str, str], name: str, allowed: Iterable[str]) -> str | None:
    value = given.get(name)
    if value is not None and value not in allowed:
        raise BadRequest(f"'{name}' must be one of {', '.join(allowed)}.", param=name)
    return value


def _number(given: dict[str, str], name: str) -> int | None:
    value = given.get(name)
    if value is None:
        return None
    if not (value.isascii() and value.isdigit() and len(value) < 10):
        raise BadRequest(f"'{name}' must be a whole number.", param=name)
    return int(value)


def _audio(given: dict[str, str]) -> AudioFormat | None:
    name = _name(given)
    if name is None:
        return None
    rate_hz = _number(given, "rate")
    if name in COMPRESSED:
        return _compressed(name, rate_hz, given)
    if rate_hz is not None and rate_hz not in RATES_HZ:
        raise BadRequest(f"'rate' must be one of {', '.join(map(str, RATES_HZ))}.", param="rate")
    channels = int(_one_of(given, "channels", ("1", "2")) or 1)
    audio = FORMATS[name]
    if rate_hz is not None and audio is not PCM16:
        raise BadRequest("'rate' needs audio=pcm16; G.711 is always 8000 Hz.", param="rate")
    if channels == 2 and audio is not PCM16:
        raise BadRequest("'channels=2' needs audio=pcm16; G.711 is always mono.", param="channels")
    if channels == 2 and given.get("framing") == "binary":
        raise BadRequest("'channels=2' needs framing=json; binary messages are mono.", param="channels")
    if audio is not PCM16:
        return audio
    return (pcm16_at if channels == 1 else stereo_at)(rate_hz or PCM16.rate_hz)


def _name(given: dict[str, str]) -> str | None:
    """Returns the format that ``audio`` and ``compression`` ask for together; None if they ask for no sound."""
    audio = _one_of(given, "audio", ("none", *FORMATS, *COMPRESSED))
    compression = _one_of(given, "compression", ("none", *COMPRESSED))
    if compression == "none":
        contradicts = audio in COMPRESSED
    else:
        contradicts = compression is not None and audio not in (None, PCM16.name, compression)
    if contradicts:
        message = f"'compression={compression}' and 'audio={audio}' contradict each other; give one of them."
        raise BadRequest(message, param="compression")
    chosen = audio if compression in (None, "none") else compression
    return None if chosen == "none" else chosen


def _compressed(name: str, rate_hz: int | None, given: dict[str, str]) -> AudioFormat:
    """Returns the format of this compression at a rate, or at its usual one; raises ``BadRequest``."""
    for choice in _LENGTHS:
        if choice in given:
            raise BadRequest(f"'{choice}' is for plain samples; {name} comes as one packet per message.", param=choice)
    if _one_of(given, "channels", ("1", "2")) == "2":
        raise BadRequest(f"'channels=2' needs audio=pcm16; {name} is mono.", param="channels")
    compression = COMPRESSED[name]
    for audio_format in compression.formats:
        if rate_hz in (None, audio_format.rate_hz):
            return audio_format
    raise BadRequest(f"'rate' for {name} must be {compression.rates}.", param="rate")


def _chunk_ms(given: dict[str, str]) -> int | None:
    latency, chunk_ms = _one_of(given, "latency", _LATENCIES_MS), _number(given, "chunk_ms")
    low, high = _CHUNK_MS
    if chunk_ms is not None and not low <= chunk_ms <= high:
        raise BadRequest(f"'chunk_ms' must be from {low} to {high}.", param="chunk_ms")
    return chunk_ms if latency is None else _LATENCIES_MS[latency]


def _tracks(given: dict[str, str]) -> tuple[str, ...]:
    if "tracks" not in given:
        return TRACKS
    names = [name.strip() for name in given["tracks"].split(",")]
    if not set(names) <= set(TRACKS):
        raise BadRequest(f"'tracks' must be one or both of {', '.join(TRACKS)}.", param="tracks")
    return tuple(track for track in TRACKS if track in names)


def _events(given: dict[str, str]) -> EventFilter | None:
    text = given.get("events")
    if text is None:
        return None
    patterns = [pattern.strip().removesuffix("*").removesuffix(".") for pattern in text.split(",")]
    if len(text) > _MAX_FILTER_CHARS:
        raise BadRequest(f"'events' may have at most {_MAX_FILTER_CHARS} characters.", param="events")
    names = {str(kind.__struct_config__.tag) for kind in server_event_types()} | BETA_TYPES
    for pattern in patterns:
        name = pattern.removeprefix("!")
        if name in _SOUND_EVENTS:
            raise BadRequest(
                f"'events' does not choose sound: '{name}' is chosen with 'audio' and 'tracks'.", param="events"
            )
        if not any(_fits(name, known) for known in names):
            raise BadRequest(
                f"'events': no event is called '{name[:64]}', and none has that prefix up to a dot.", param="events"
            )
    return EventFilter(patterns)
