"""The dialect of Genesys AudioHook Monitor: the bridge listens to a conversation, and sends no sound.

A binary message would end the session. Its two channels, the customer (``external``) and the agent (``internal``), come
interleaved, or one comes alone. One of them is the call's caller, as the integration chooses, or both mixed.
"""

from collections.abc import Callable
from typing import Any

from bridge.errors import BadRequest
from bridge.telephony.dialect import Traits
from bridge.telephony.genesys.dialect import FORMATS, AudioHookSession
from bridge.wire.audio import G711_ULAW, AudioFormat, pcm16_at

__all__ = ["BOTH", "CHANNELS", "AudioHook", "Mix"]

CHANNELS = ("external", "internal")
"""The channels, in the order in which they are interleaved."""
BOTH = "both"
"""The word for both channels, mixed into PCM16."""


Mix = Callable[[bytes, AudioFormat], bytes]
"""Returns two interleaved channels of a format as one of PCM16."""


class AudioHook(AudioHookSession):
    """The dialect of one session. It hears ``channel``: one of ``CHANNELS``, or ``BOTH`` by ``mix``."""

    name = "audiohook"
    traits = Traits(lead_ms=0, has_marks=False, is_listening_only=True, says_goodbye=True)

    def __init__(
        self, session_id: str = "", organization_id: str = "", *, channel: str = CHANNELS[0], mix: Mix | None = None
    ) -> None:
        super().__init__(session_id, organization_id)
        self._channel = channel
        self._format = G711_ULAW
        self._mix = mix
        self._step = 1
        """The number of channels that are interleaved."""

    def choose(self, offered: list[Any]) -> tuple[dict[str, Any], AudioFormat]:
        """Returns the offer of the channel alone if there is one, else that of both; raises ``BadRequest``."""
        for channels in ([self._channel], list(CHANNELS)):  # nobody offers one that is called ``BOTH``
            for media in offered:
                if not isinstance(media, dict) or media.get("channels") != channels or media.get("rate") != 8000:
                    continue
                if (audio_format := FORMATS.get(str(media.get("format")))) is not None:
                    self._step, self._format = len(channels), audio_format
                    return media, pcm16_at(8000) if self._channel == BOTH else audio_format
        raise BadRequest(
            "None of the offered media is served; offer PCMU or L16 at 8000 Hz, "
            f"of {'' if self._channel == BOTH else self._channel + ' alone or of '}both.",
            code="unsupported_format",
            param="parameters.media",
        )

    def hear(self, sound: bytes) -> bytes:
        """Returns the samples of the channel, or the sum of both, which is cut where it would be too loud."""
        if self._mix is not None and self._channel == BOTH:
            return self._mix(sound, self._format)
        if self._step == 1:
            return sound
        at = CHANNELS.index(self._channel)
        if self._format.bytes_per_sample == 1:
            return sound[at :: self._step]
        whole = len(sound) - len(sound) % (2 * self._step)
        return memoryview(sound)[:whole].cast("h")[at :: self._step].tobytes()

    def encode_sound(self, sound: bytes) -> bytes:
        """Returns the sound, which is never sent."""
        return sound

    def encode_clear(self) -> list[str | bytes]:
        """Returns no messages, because there is nothing to clear."""
        return []
