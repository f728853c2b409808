"""Sinch's settings."""

import base64
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, ClassVar

from bridge.config.fields import Applies, Fault, Section, Text, setting

if TYPE_CHECKING:
    from bridge.config import Config

__all__ = ["SinchSettings"]


class SinchSettings(Section, frozen=True, kw_only=True):
    """The settings of Sinch's voice streams."""

    section: ClassVar[str] = "sinch"
    title: ClassVar[str] = "telephony: Sinch"

    sinch_application_secret: Annotated[
        tuple[Text, ...],
        setting(
            Applies.LIVE,
            "secret of a Sinch voice application, in base64; opens the bridge's endpoint for Sinch",
            is_secret=True,
        ),
    ] = ()

    def faults(self, config: "Config") -> Iterator[Fault]:
        """Finds secrets that cannot sign."""
        for secret in self.sinch_application_secret:
            try:
                base64.b64decode(secret, validate=True)
            except ValueError:
                yield Fault("sinch_application_secret", "must be base64, as Sinch's dashboard shows it")
