"""The settings of Azure Communication Services."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, ClassVar

from bridge.config.fields import Applies, Fault, Section, Text, setting
from bridge.config.words import masked

if TYPE_CHECKING:
    from bridge.config import Config

__all__ = ["AcsSettings"]


class AcsSettings(Section, frozen=True, kw_only=True):
    """Azure Communication Services."""

    section: ClassVar[str] = "acs"
    title: ClassVar[str] = "telephony: Azure Communication Services"

    acs_audience: Annotated[
        tuple[Text, ...],
        setting(Applies.LIVE, "immutable resource id of a Communication Services resource; opens its endpoint"),
    ] = ()
    acs_jwks_url: Annotated[
        Text,
        setting(Applies.LIVE, "where the keys are published by which Azure signs its connections"),
    ] = "https://acscallautomation.communication.azure.com/calling/keys"

    def faults(self, config: "Config") -> Iterator[Fault]:
        """Keys from anywhere would be no proof."""
        if not self.acs_jwks_url.startswith(("https://", "http://127.0.0.1")):
            yield Fault("acs_jwks_url", f"must be https://host/path, got {masked(self.acs_jwks_url)!r}")
