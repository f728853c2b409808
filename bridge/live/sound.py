"""The sound of one Live call, as its primary WebSocket and its sidebands get it."""

from bridge.live.audience import LiveAudience
from bridge.live.connection import LiveConnection
from bridge.live.playout import FRAME_BYTES, LivePlayout
from bridge.live.timeline import Timeline
from bridge.media.convert import SoundConverter, SoundEncoder
from bridge.media.pacer import FRAME_MS
from bridge.wire.audio import PCM16, AudioFormat
from bridge.wire.live.client_events import LiveBearer

__all__ = ["LiveSound", "PrimaryOutput"]

_LIMIT_S = 600
_CHUNK_BYTES = 2 * FRAME_BYTES


class PrimaryOutput:
    """What the primary WebSocket is sent of the sound, in the session's format."""

    def __init__(self, audience: LiveAudience, connection: LiveConnection, audio_format: AudioFormat) -> None:
        self.connection = connection
        self._audience = audience
        self._format = audio_format
        self._encoder = SoundEncoder(audio_format)

    def play(self, pcm: bytes) -> None:
        """Sends PCM16 of 24 kHz."""
        sound = self._encoder.push(pcm)
        if sound:
            self._audience.play(self.connection, sound, PCM16.ms_of(len(pcm)))


class LiveSound:
    """Both directions of the call's sound, and how much time of the session has been played."""

    def __init__(self, audience: LiveAudience, timeline: Timeline) -> None:
        self.playout = LivePlayout(limit_s=_LIMIT_S)
        self.output: PrimaryOutput | None = None
        """The primary WebSocket's part, if the call has one."""
        self.played_ms = 0
        """The time of the session at which the next frame begins."""
        self._audience = audience
        self._timeline = timeline
        self._reflected: SoundConverter | None = None
        self._chunk = bytearray()

    def heard(self, sound: bytes, audio_format: AudioFormat) -> None:
        """Notes what the caller says, before it is muted, and tells sidebands of it."""
        audio_ms = len(sound) * 1000 / (audio_format.rate_hz * audio_format.bytes_per_sample)
        self._timeline.input_ms += audio_ms
        if not self._timeline.is_started or not self._audience.has(LiveBearer.SIDEBAND):
            self._reflected = None
            return
        if self._reflected is None or self._reflected.source is not audio_format:
            self._reflected = SoundConverter(audio_format)
            self._reflected.want(PCM16)
        pcm = self._reflected.push(sound)[PCM16]
        if pcm:
            self._audience.reflect_input(pcm, round(audio_ms))

    def play(self, frame: bytes) -> None:
        """Takes the frame that is due; clients get two at a time."""
        self._chunk += frame
        if len(self._chunk) >= _CHUNK_BYTES:
            self.play_now(bytes(self._chunk))
            self._chunk.clear()

    def play_now(self, pcm: bytes) -> None:
        """Gives the primary WebSocket and sidebands the sound that ends with the present frame."""
        if self.output is not None:
            self.output.play(pcm)
        if self._audience.has(LiveBearer.SIDEBAND):
            end_ms = self.played_ms + FRAME_MS
            self._audience.reflect_output(pcm, max(0, end_ms - PCM16.ms_of(len(pcm))), end_ms)

    def pass_time(self, ticks: int) -> None:
        """Lets so many times 20 ms pass."""
        self.played_ms += ticks * FRAME_MS
