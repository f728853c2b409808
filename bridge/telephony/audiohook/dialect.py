"""The dialect of Genesys AudioHook Monitor: the bridge listens to a conversation, and sends no sound.

A binary message would end the session. Its two channels, the customer (``external``) and the agent (``internal``), come
interleaved, or one comes alone. One of them is the call's caller. The integration chooses which one: the stream of the
other is another session.
"""

from typing import Any

from bridge.errors import BadRequest
from bridge.telephony.dialect import Traits
from bridge.telephony.genesys.dialect import FORMATS, AudioHookSession
from bridge.wire.audio import AudioFormat

__all__ = ["CHANNELS", "AudioHook"]

CHANNELS = ("external", "internal")
"""The channels, in the order in which they are interleaved."""


class AudioHook(AudioHookSession):
    """The dialect of one session, of which ``channel`` is heard."""

    name = "audiohook"
    traits = Traits(lead_ms=0, has_marks=False, is_listening_only=True, says_goodbye=True)

    def __init__(self, session_id: str = "", organization_id: str = "", *, channel: str = CHANNELS[0]) -> None:
        super().__init__(session_id, organization_id)
        self._channel = channel
        self._sample_bytes = 1
        self._step = 1
        """The number of channels that are interleaved."""

    def choose(self, offered: list[Any]) -> tuple[dict[str, Any], AudioFormat]:
        """Returns the offer of the channel alone if there is one, else that of both; raises ``BadRequest``."""
        for channels in ([self._channel], list(CHANNELS)):
            for media in offered:
                if not isinstance(media, dict) or media.get("channels") != channels or media.get("rate") != 8000:
                    continue
                if (audio_format := FORMATS.get(str(media.get("format")))) is not None:
                    self._step, self._sample_bytes = len(channels), audio_format.bytes_per_sample
                    return media, audio_format
        raise BadRequest(
            f"None of the offered media is served; offer PCMU or L16 at 8000 Hz, of {self._channel} alone or of both.",
            code="unsupported_format",
            param="parameters.media",
        )

    def hear(self, sound: bytes) -> bytes:
        """Returns the samples of the channel."""
        if self._step == 1:
            return sound
        at = CHANNELS.index(self._channel)
        if self._sample_bytes == 1:
            return sound[at :: self._step]
        whole = len(sound) - len(sound) % (2 * self._step)
        return memoryview(sound)[:whole].cast("h")[at :: self._step].tobytes()

    def encode_sound(self, sound: bytes) -> bytes:
        """Returns the sound, which is never sent."""
        return sound

    def encode_clear(self) -> list[str | bytes]:
        """Returns no messages, because there is nothing to clear."""
        return []
