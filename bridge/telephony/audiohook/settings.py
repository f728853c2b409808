"""The settings of Genesys AudioHook Monitor."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, ClassVar

from bridge.config.fields import Applies, Fault, Section, Text, setting

if TYPE_CHECKING:
    from bridge.config import Config

__all__ = ["AudioHookSettings"]


class AudioHookSettings(Section, frozen=True, kw_only=True):
    """The settings of Genesys AudioHook Monitor."""

    section: ClassVar[str] = "audiohook"
    title: ClassVar[str] = "telephony: Genesys AudioHook Monitor"

    audiohook_api_key: Annotated[
        tuple[Text, ...],
        setting(
            Applies.LIVE,
            "API key of the AudioHook Monitor integration; opens the bridge's endpoint for it",
            is_secret=True,
        ),
    ] = ()
    audiohook_client_secret: Annotated[
        tuple[Text, ...],
        setting(Applies.LIVE, "client secret of that integration, in base64, with which it signs", is_secret=True),
    ] = ()

    def faults(self, config: "Config") -> Iterator[Fault]:
        """Finds a key without the secret that proves it."""
        if bool(self.audiohook_api_key) != bool(self.audiohook_client_secret):
            yield Fault("audiohook_client_secret", "must be set together with audiohook_api_key")
