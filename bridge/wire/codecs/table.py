"""The table of all codecs, by dialect. A new protocol needs a codec and a line here."""

from collections.abc import Callable, MutableMapping
from typing import NamedTuple

from bridge.wire.codecs.beta import BetaCodec
from bridge.wire.codecs.binary import BINARY_SOUND
from bridge.wire.codecs.codec import Codec, SoundCodec
from bridge.wire.codecs.ga import GA
from bridge.wire.codecs.live import LIVE_CODEC
from bridge.wire.codecs.translation import TranslationCodec
from bridge.wire.dialects.beta import Beta
from bridge.wire.stats import Dialect, Framing

__all__ = ["Codecs", "sound_codec"]


class _Settings(NamedTuple):
    """What a call was opened with, and only some dialects have a place for."""

    metadata: MutableMapping[str, str]
    temperature: float | None


_NEW: dict[Dialect, Callable[[_Settings], Codec]] = {
    Dialect.GA: lambda settings: GA,
    Dialect.BETA: lambda settings: BetaCodec(Beta(settings.metadata, settings.temperature)),
    Dialect.TRANSLATION: lambda settings: TranslationCodec(),
    Dialect.LIVE: lambda settings: LIVE_CODEC,
}


class Codecs:
    """The codecs of one call, each made as soon as somebody speaks its dialect.

    ``metadata`` is what the application wants to find again; clients of some dialects change it in place.
    ``temperature`` is what a client has opened the call with, if its dialect has one.
    """

    def __init__(
        self,
        metadata: MutableMapping[str, str] | None = None,
        *,
        temperature: float | None = None,
        only: Dialect | None = None,
    ) -> None:
        """With ``only``, the call has this dialect, whichever a client asks for."""
        self._only = only
        self._settings = _Settings({} if metadata is None else metadata, temperature)
        self._made: dict[Dialect, Codec] = {}

    def of(self, dialect: Dialect) -> Codec:
        """Returns the call's codec for a dialect."""
        dialect = self._only or dialect
        codec = self._made.get(dialect)
        if codec is None:
            codec = self._made[dialect] = _NEW[dialect](self._settings)
        return codec


def sound_codec(codec: Codec, framing: Framing, track: str) -> SoundCodec:
    """Returns how ``track`` is written for a listener that speaks with ``codec`` and has chosen ``framing``."""
    return BINARY_SOUND if framing is Framing.BINARY else codec.sound(track)
