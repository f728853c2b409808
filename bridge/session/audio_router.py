"""A session's sound: two tracks, each pushed in one format and wanted in several, each made once.

    leg or owner ──▶ input track ──▶ listeners' streams, then the upstream
    upstream ──▶ output track ──▶ listeners' streams, then the leg

If nobody wants another format than the one that comes, bytes pass through as they are. Opus for listeners is made
once for all of them. If it comes as Opus, from a caller or from an upstream whose answers are passed on, they get the
very packets, and nothing is decoded or encoded for them.
"""

from collections.abc import Callable, Iterator

from bridge.errors import BadEvent
from bridge.media.compress import Compressor, new_compressor
from bridge.media.contracts import Leg, PassingUpstream
from bridge.media.convert import SoundConverter
from bridge.media.passing import PacketClock, PassedPacket
from bridge.media.playback import Part
from bridge.session.contracts import Upstream
from bridge.session.fanout.listener import Listener
from bridge.session.fanout.replay import Replay
from bridge.session.fanout.streams import SoundStream, StreamKind, SubscribedStream
from bridge.session.fanout.subscription import Subscription, TrackName
from bridge.session.playback_controller import PlaybackController
from bridge.session.state import SessionState
from bridge.wire.audio import OPUS, PCM16, AudioFormat
from bridge.wire.base64_json import read_base64
from bridge.wire.client_events import (
    ClientEvent,
    InputAudioBufferAppend,
    InputAudioBufferClear,
    InputAudioBufferCommit,
    OtherEvent,
)
from bridge.wire.codecs.table import sound_codec
from bridge.wire.sessions import format_of

__all__ = ["AudioRouter", "Track"]

_MAX_APPEND_CHARS = 20 * 1024 * 1024  # 15 MiB as base64
_LINGER_MS = 10_000  # of sound that is still made for a stream whose last listener has left: it may come back
_MAX_LINGERING = 8
_MAX_OTHERS = 16  # responses that are given at the same time as the present one, as many as the engine gives
_TICKS_HZ = 28_224_000  # every format's rate divides it


class AudioRouter:
    """Routes both tracks from those who bring sound to those who take it."""

    def __init__(self, replay: Replay, upstream: Upstream, playback: PlaybackController) -> None:
        self.owner_format = PCM16
        """The format of the owner's sound, if there is no leg."""
        self._upstream = upstream
        self._playback = playback
        self._always_decodes = False
        self._passage: PassingUpstream | None = None
        self._passed_response = ""  # which the leg hears by packets, and not by its sound
        self._leg: Leg | None = None
        self._input = Track("input", replay, on_unheard=self._pass_on)
        self._output = Track("output", replay, on_unheard=self._pass_on)

    def attach_leg(self, leg: Leg) -> None:
        """From now on the caller's sound comes from ``leg``, and the answer's sound goes to it."""
        if self._leg is not None and self._leg.passage is not None:
            self._leg.passage.pass_to(None, decodes=True)
            self._leg.passage.read_packets(None)
        self._leg = leg
        self._input.brings_packets(leg.passage is not None)
        self._follow_formats()
        self._pass_on()

    def settle_formats(self) -> None:
        """Settles the formats anew after a change of the session or of its upstream, so that no packet has to ask for
        them.
        """
        self._follow_formats()
        if self._upstream.passage is not self._passage and not self._always_decodes:
            self._pass_on()

    def _follow_formats(self) -> None:
        leg, upstream = self._leg, self._upstream
        self._input.follow(self.owner_format if leg is None else leg.input_format, upstream.input_format)
        self._output.follow(upstream.output_format, None if leg is None else leg.output_format)

    def follow_owner(self, owner: Listener, state: SessionState) -> None:
        """An owner's sound travels in the session's formats, which it may change at any time."""
        inbound = format_of(state.input.format)
        if inbound is not self.owner_format:
            self.owner_format, owner.half_sample = inbound, b""
            self._follow_formats()
        outbound = format_of(state.output.format)
        if owner.audio != outbound.name:
            self._output.leave(owner)
            self._output.join(owner, outbound)
            owner.audio = outbound.name

    def join(self, listener: Listener) -> None:
        """From now on ``listener`` gets the tracks that it has chosen."""
        audio_format = listener.choices.audio
        if audio_format is None:
            return
        listener.audio = audio_format.name
        for track in (self._input, self._output):
            if track.name in listener.choices.tracks:
                track.join(listener, audio_format)
        self._pass_on()

    def leave(self, listener: Listener) -> None:
        """From now on ``listener`` gets no sound; may be called twice."""
        for track in (self._input, self._output):
            track.leave(listener)
        self._pass_on()

    def subscribe(self, subscription: Subscription) -> None:
        """From now on a consumer gets the tracks that it wants, if it wants sound."""
        if subscription.audio_format is not None:
            for track in (self._input, self._output):
                if track.name in subscription.tracks:
                    track.subscribe(subscription, subscription.audio_format)
            self._pass_on()

    def unsubscribe(self, subscription: Subscription) -> None:
        """From now on the consumer gets no sound; may be called twice."""
        for track in (self._input, self._output):
            track.unsubscribe(subscription)
        self._pass_on()

    def _pass_on(self) -> None:
        """Passes Opus on between two WebRTC peers as it is; it is decoded only for listeners to samples."""
        leg = None if self._leg is None else self._leg.passage
        may_pass = leg is not None and not self._always_decodes
        before, self._passage = self._passage, self._upstream.passage if may_pass else None
        if before is not None and before is not self._passage:
            before.pass_answers_to(None, decodes=True)
        if leg is None:
            return
        leg.read_packets(self._input.take_packet if self._input.wants_packets else None)
        if self._passage is None:
            leg.pass_to(None, decodes=True)
        else:
            leg.pass_to(self._passage.forward, decodes=self._input.wants_samples)
            reader = self._read_answer if self._output.wants_packets else None
            self._passage.pass_answers_to(self._forward_answer, decodes=self._output.wants_samples, reader=reader)

    def _forward_answer(self, part: Part, passed: PassedPacket) -> bool:
        is_passed = self._playback.forward(part, passed)
        self._passed_response = part.response_id if is_passed else ""
        return is_passed

    def _read_answer(self, part: Part, packet: PassedPacket) -> None:
        """The next packet of an answer that is passed on, for listeners of Opus."""
        self._turn_to(part)
        self._output.take_packet(packet)

    def decode_always(self, does: bool) -> None:
        """Whether the caller's sound is decoded here although it could be passed on, so that it can be changed."""
        self._always_decodes = does
        self._pass_on()

    def receive_caller_audio(self, sound: bytes) -> None:
        """Takes a piece of the caller's sound, in the leg's format or in the owner's."""
        due = self._input.push(sound)
        if self._passage is None:
            self._upstream.receive_caller_audio(due)

    def append(self, listener: Listener, event: InputAudioBufferAppend) -> Iterator[bytes]:
        """The caller's sound in an event of ``listener``, a second at a time; raises ``BadEvent``.

        Half a sample at its end waits for the next append of the same socket.
        """
        if self._leg is not None:
            raise BadEvent("The caller's sound comes with the call, so append events are not accepted.", param="type")
        if len(event.audio) > _MAX_APPEND_CHARS:
            raise BadEvent("An append may carry at most 15 MiB.", param="audio", code="event_too_large")
        try:
            sound = read_base64(event.audio)
        except ValueError:
            raise BadEvent("'audio' is not valid base64.", param="audio", code="invalid_audio") from None
        sound = listener.half_sample + sound
        odd_bytes = len(sound) % self.owner_format.bytes_per_sample
        listener.half_sample = sound[len(sound) - odd_bytes :]
        sound = sound[: len(sound) - odd_bytes]
        piece_bytes = self.owner_format.bytes_per_ms * 1000
        for at in range(0, len(sound), piece_bytes):
            yield sound[at : at + piece_bytes]

    @staticmethod
    def settle_samples(listener: Listener, event: ClientEvent | OtherEvent) -> None:
        """Half a sample that waits when ``listener`` ends the turn, or forgets it, belongs to no later one."""
        if isinstance(event, InputAudioBufferCommit | InputAudioBufferClear):
            listener.half_sample = b""

    def deliver_answer(self, part: Part, sound: bytes) -> None:
        """Takes a piece of the answer, in the upstream's format.

        Listeners get it at once, the leg plays it in real time.
        """
        self._turn_to(part)
        self._output.brings_packets(part.response_id == self._passed_response)
        self._to_leg(self._output.push(sound))

    def end(self) -> None:
        """Sends what was held back of the caller's sound, because the call is over."""
        self._input.end()

    def end_output(self, response_id: str) -> None:
        """Sends what the resamplers held back, because a part of this response is complete."""
        part = self._output.part_of(response_id)
        if part is not None:
            self._turn_to(part)
            self._to_leg(self._output.end())

    def _turn_to(self, part: Part) -> None:
        """The parts of one response follow each other; two responses may come at the same time, in turns."""
        before = self._output.part
        if part == before:
            return
        if before is None or before.response_id != part.response_id:
            self._output.turn_to(part.response_id)
        if self._output.part is not None and self._output.part != part:
            self._to_leg(self._output.end())
        self._output.begin_part(part)

    def _to_leg(self, sound: bytes) -> None:
        part = self._output.part
        if sound and self._leg is not None and part is not None and part.response_id != self._passed_response:
            self._playback.play(part, sound)


class Track:
    """One direction of a session's sound; ``follow`` says in which format it comes and in which one its taker wants it.

    Listeners are served first, so that they hear of sound before they hear what came of it. ``on_unheard`` is told when
    a stream has ended that nobody has heard for a while.
    """

    def __init__(self, name: TrackName, replay: Replay, *, on_unheard: Callable[[], None]) -> None:
        self.name = name
        self.part: Part | None = None
        """The part of a response that the sound belongs to; None for the caller's sound. ``begin`` sets it."""
        self._replay = replay
        self._on_unheard = on_unheard
        self._converter = SoundConverter(PCM16)
        self._compressors: dict[AudioFormat, Compressor] = {}
        self._others: dict[str, tuple[Part, SoundConverter, dict[AudioFormat, Compressor]]] = {}
        """The state of responses that another one has interrupted; each goes on where it was."""
        self._is_ended = True
        self._positions: dict[AudioFormat, int] = {}  # of what is compressed here, Opus excepted, in samples
        self._taken: AudioFormat | None = None
        self._streams: dict[StreamKind, SoundStream | SubscribedStream] = {}
        self._numbers: dict[StreamKind, int] = {}  # where streams go on that have ended
        self._ticks = 0  # of sound so far
        self._brings_packets = False
        self._clock = PacketClock()  # of Opus, whoever made it

    def begin_part(self, part: Part) -> None:
        """From now on the sound belongs to this part."""
        self.part = part
        self._clock.restart()

    def follow(self, source: AudioFormat, taken: AudioFormat | None) -> None:
        """Sets the formats that count from now on."""
        if source is self._converter.source and taken is self._taken:
            return
        if source is not self._converter.source:
            self._write(self._converter.flush())
            self._converter = SoundConverter(source)
            self._others.clear()
        before, self._taken = self._taken, taken
        if taken is not None:
            self._converter.want(taken)
        self._want(before)

    def brings_packets(self, does: bool) -> None:
        """Whether the sound comes in packets of Opus besides, for ``take_packet``."""
        self._brings_packets = does

    @property
    def wants_samples(self) -> bool:
        """Whether somebody listens to a format that is made of samples, or did a moment ago.

        Opus is one if no packets come.
        """
        return any(stream.format is not OPUS for stream in self._streams.values())

    @property
    def wants_packets(self) -> bool:
        """Whether somebody listens to Opus, or did a moment ago."""
        return any(stream.format is OPUS for stream in self._streams.values())

    def part_of(self, response_id: str) -> Part | None:
        """The part of this response that came last; None if none is open."""
        if self.part is not None and self.part.response_id == response_id:
            return None if self._is_ended else self.part
        return self._others[response_id][0] if response_id in self._others else None

    def turn_to(self, response_id: str) -> None:
        """Sound of another response follows; ``part`` is then the last one of that, or None."""
        kept = self._others.pop(response_id, None)
        if self.part is not None and not self._is_ended:
            self._others[self.part.response_id] = self.part, self._converter, self._compressors
            if len(self._others) > _MAX_OTHERS:
                del self._others[next(iter(self._others))]
            self._converter, self._compressors = SoundConverter(self._converter.source), {}
        self.part, self._is_ended = None, kept is None
        if kept is not None:
            self.part, self._converter, self._compressors = kept
        if self._taken is not None:
            self._converter.want(self._taken)
        self._want()

    def push(self, sound: bytes) -> bytes:
        """Gives sound to every stream; returns what is due for the taker."""
        self._is_ended = False
        source = self._converter.source
        self._ticks += len(sound) // source.bytes_per_sample * (_TICKS_HZ // source.rate_hz)
        return self._write(self._converter.push(sound))

    def take_packet(self, packet: PassedPacket) -> None:
        """The next packet of Opus that came, in order: as it is to every stream of Opus; what is lost is marked."""
        self._is_ended = False
        placed = self._clock.place(packet)
        if placed is None:
            return
        if placed.lost:
            self._send_packet(OPUS, b"", placed.timestamp - placed.lost, min(placed.lost, OPUS.rate_hz))
        self._send_packet(OPUS, packet.payload, placed.timestamp, placed.samples)

    def end(self) -> bytes:
        """Sends what was held back of the sound so far; returns what of it is due for the taker."""
        self._is_ended = True
        due = self._write(self._converter.flush())
        for audio_format, compressor in tuple(self._compressors.items()):
            self._send_packets(audio_format, compressor, compressor.end())
        for stream in self._streams.values():
            stream.end()
        return due

    def join(self, listener: Listener, audio_format: AudioFormat) -> None:
        """From now on ``listener`` hears the track in this format."""
        choices = listener.choices
        codec = sound_codec(listener.codec, choices.framing, self.name)
        chunk = choices.chunk_of(audio_format)
        kind = (audio_format, chunk, codec)
        stream = self._streams.get(kind)
        if not isinstance(stream, SoundStream):
            heard_samples = self._ticks // (_TICKS_HZ // audio_format.rate_hz)
            number = self._numbers.get(kind, 0)
            stream = SoundStream(
                self.name,
                audio_format,
                chunk,
                codec,
                replay=self._replay,
                number=number,
                heard_samples=heard_samples,
            )
            self._streams[kind] = stream
            self._want()
        stream.unheard_ms = 0
        stream.listeners.append(listener)
        listener.streams.add(stream.prefix)

    def leave(self, listener: Listener) -> None:
        """Takes ``listener`` out.

        A stream that nobody hears goes on for a while, because its listener may come back.
        """
        for stream in self._streams.values():
            if isinstance(stream, SoundStream) and listener in stream.listeners:
                stream.listeners.remove(listener)
                listener.streams.discard(stream.prefix)
        unheard = [kind for kind, stream in self._streams.items() if not stream.is_heard]
        for kind in unheard[:-_MAX_LINGERING]:
            self._drop(kind)

    def subscribe(self, subscription: Subscription, audio_format: AudioFormat) -> None:
        """From now on a consumer gets the track in this format."""
        kind = (audio_format, None, None)
        stream = self._streams.get(kind)
        if not isinstance(stream, SubscribedStream):
            heard_samples = self._ticks // (_TICKS_HZ // audio_format.rate_hz)
            stream = SubscribedStream(self.name, audio_format, heard_samples=heard_samples)
            self._streams[kind] = stream
            self._want()
        stream.subscriptions.append(subscription)

    def unsubscribe(self, subscription: Subscription) -> None:
        """Takes the consumer out; what was made for it alone is made no longer."""
        for kind, stream in tuple(self._streams.items()):
            if isinstance(stream, SubscribedStream) and subscription in stream.subscriptions:
                stream.subscriptions.remove(subscription)
                if not stream.subscriptions:
                    del self._streams[kind]
                    self._want(stream.format)

    def _write(self, made: dict[AudioFormat, bytes]) -> bytes:
        for kind, stream in tuple(self._streams.items()):
            if stream.unheard_ms > _LINGER_MS:
                self._drop(kind)
                self._on_unheard()
            elif not stream.format.is_compressed:
                stream.write_sound(self.part, made[stream.format])
        for audio_format, compressor in tuple(self._compressors.items()):
            if audio_format is not OPUS or not self._brings_packets:
                self._send_packets(audio_format, compressor, compressor.push(made[compressor.source]))
        return b"" if self._taken is None else made[self._taken]

    def _send_packets(self, audio_format: AudioFormat, compressor: Compressor, packets: list[bytes]) -> None:
        for packet in packets:
            timestamp = self._position(audio_format)
            self._set_position(audio_format, timestamp + compressor.samples)
            self._send_packet(audio_format, packet, timestamp, compressor.samples)

    def _position(self, audio_format: AudioFormat) -> int:
        return self._clock.position if audio_format is OPUS else self._positions.get(audio_format, 0)

    def _set_position(self, audio_format: AudioFormat, position: int) -> None:
        if audio_format is OPUS:
            self._clock.position = position
        else:
            self._positions[audio_format] = position

    def _send_packet(self, audio_format: AudioFormat, packet: bytes, timestamp: int, samples: int) -> None:
        for kind, stream in tuple(self._streams.items()):
            if stream.format is not audio_format:
                continue
            if stream.unheard_ms > _LINGER_MS:
                self._drop(kind)
                self._on_unheard()
            else:
                stream.write_packet(self.part, packet, timestamp, samples)

    def _drop(self, kind: StreamKind) -> None:
        stream = self._streams.pop(kind)
        self._numbers[kind] = stream.number + 1  # the number that is left out stands for the sound that is not made
        self._want(stream.format)

    def _want(self, before: AudioFormat | None = None) -> None:
        """Begins to make what the streams need, and stops making what none needs any more.

        ``before`` was needed until now.
        """
        formats = {stream.format for stream in self._streams.values()}
        compressed = {each for each in formats if each.is_compressed}
        unneeded = [before] if before is not None else []
        unneeded += [self._compressors.pop(each).source for each in self._compressors.keys() - compressed]
        for audio_format in compressed - self._compressors.keys():
            self._compressors[audio_format] = new_compressor(audio_format)
            heard_samples = self._ticks // (_TICKS_HZ // audio_format.rate_hz)
            self._set_position(audio_format, max(heard_samples, self._position(audio_format)))
        wanted = {each for each in formats if not each.is_compressed}
        wanted |= {compressor.source for compressor in self._compressors.values()}
        for audio_format in wanted:
            self._converter.want(audio_format)
        for audio_format in unneeded:
            if audio_format not in wanted and audio_format is not self._taken:
                self._converter.leave_out(audio_format)
