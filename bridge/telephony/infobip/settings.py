"""Infobip's settings."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, ClassVar

from bridge.config.fields import Applies, Fault, Section, Text, setting
from bridge.config.words import masked

if TYPE_CHECKING:
    from bridge.config import Config

__all__ = ["InfobipSettings"]


class InfobipSettings(Section, frozen=True, kw_only=True):
    """The settings of Infobip calls."""

    section: ClassVar[str] = "infobip"
    title: ClassVar[str] = "telephony: Infobip"

    infobip_secret: Annotated[
        tuple[Text, ...],
        setting(
            Applies.LIVE,
            "`customData.token` in Infobip's configuration; opens the bridge's endpoint for Infobip",
            is_secret=True,
        ),
    ] = ()
    infobip_api_key: Annotated[
        Text | None, setting(Applies.LIVE, "key for Infobip's API, for hanging up", is_secret=True)
    ] = None
    infobip_url: Annotated[
        Text | None, setting(Applies.LIVE, "`https://xxxxx.api.infobip.com` of the account, for hanging up")
    ] = None

    def faults(self, config: "Config") -> Iterator[Fault]:
        """Finds a key without the address that it is for."""
        if (self.infobip_api_key is None) != (self.infobip_url is None):
            yield Fault("infobip_api_key", "must be set together with infobip_url")
        if self.infobip_url is not None and not self.infobip_url.startswith(("https://", "http://127.0.0.1")):
            yield Fault("infobip_url", f"must be https://host, got {masked(self.infobip_url)!r}")
