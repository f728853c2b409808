"""The settings of Azure Communication Services."""

import base64
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, ClassVar

from bridge.config.fields import Applies, Fault, Section, Text, setting
from bridge.config.words import masked

if TYPE_CHECKING:
    from bridge.config import Config

__all__ = ["AcsSettings"]


class AcsSettings(Section, frozen=True, kw_only=True):
    """The settings of Azure Communication Services."""

    section: ClassVar[str] = "acs"
    title: ClassVar[str] = "telephony: Azure Communication Services"

    acs_audience: Annotated[
        tuple[Text, ...],
        setting(
            Applies.LIVE,
            "immutable resource ID of a Communication Services resource; opens the bridge's endpoint for Azure",
        ),
    ] = ()
    acs_jwks_url: Annotated[
        Text,
        setting(Applies.LIVE, "URL at which Azure publishes the keys with which it signs connections"),
    ] = "https://acscallautomation.communication.azure.com/calling/keys"

    acs_endpoint: Annotated[
        Text | None,
        setting(
            Applies.LIVE,
            "`https://NAME.communication.azure.com`, for hanging up: closing a stream leaves the caller on the line",
        ),
    ] = None
    acs_access_key: Annotated[
        Text | None,
        setting(Applies.LIVE, "access key of that resource, with which requests are signed", is_secret=True),
    ] = None

    def faults(self, config: "Config") -> Iterator[Fault]:
        """Finds keys that could come from anywhere, which would prove nothing, and an access key that cannot sign."""
        for name, url in (("acs_jwks_url", self.acs_jwks_url), ("acs_endpoint", self.acs_endpoint)):
            if url is not None and not url.startswith(("https://", "http://127.0.0.1")):
                yield Fault(name, f"must be https://host{'/path' if 'jwks' in name else ''}, got {masked(url)!r}")
        if (self.acs_endpoint is None) != (self.acs_access_key is None):
            yield Fault("acs_access_key", "must be set together with acs_endpoint")
        try:
            base64.b64decode(self.acs_access_key or "", validate=True)
        except ValueError:
            yield Fault("acs_access_key", "must be base64, as Azure's portal shows it")
