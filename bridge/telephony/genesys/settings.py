"""Genesys' settings."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, ClassVar

from bridge.config.fields import Applies, Fault, Section, Text, setting

if TYPE_CHECKING:
    from bridge.config import Config

__all__ = ["GenesysSettings"]


class GenesysSettings(Section, frozen=True, kw_only=True):
    """The settings of Genesys Audio Connector."""

    section: ClassVar[str] = "genesys"
    title: ClassVar[str] = "telephony: Genesys"

    genesys_api_key: Annotated[
        tuple[Text, ...],
        setting(
            Applies.LIVE,
            "API key of the Audio Connector integration; opens the bridge's endpoint for Genesys",
            is_secret=True,
        ),
    ] = ()
    genesys_client_secret: Annotated[
        tuple[Text, ...],
        setting(Applies.LIVE, "client secret of that integration, in base64, with which it signs", is_secret=True),
    ] = ()

    def faults(self, config: "Config") -> Iterator[Fault]:
        """Finds a key without the secret that proves it."""
        if bool(self.genesys_api_key) != bool(self.genesys_client_secret):
            yield Fault("genesys_client_secret", "must be set together with genesys_api_key")
