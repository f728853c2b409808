"""The settings of jambonz."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, ClassVar

from bridge.config.fields import Applies, Fault, Section, Text, setting
from bridge.config.words import masked

if TYPE_CHECKING:
    from bridge.config import Config

__all__ = ["JambonzSettings"]


class JambonzSettings(Section, frozen=True, kw_only=True):
    """The settings of jambonz' listen."""

    section: ClassVar[str] = "jambonz"
    title: ClassVar[str] = "telephony: jambonz"

    jambonz_secret: Annotated[
        tuple[Text, ...],
        setting(
            Applies.LIVE,
            "password of jambonz's `wsAuth` and of HTTP Basic on its webhook; opens the bridge's endpoint for jambonz",
            is_secret=True,
        ),
    ] = ()
    jambonz_webhook_secret: Annotated[
        tuple[Text, ...],
        setting(Applies.LIVE, "secret with which jambonz.cloud signs webhooks, instead of HTTP Basic", is_secret=True),
    ] = ()
    jambonz_api_url: Annotated[
        Text | None,
        setting(Applies.LIVE, "`https://api.jambonz.cloud/v1`, or your own server's, for transferring calls"),
    ] = None
    jambonz_account_sid: Annotated[Text | None, setting(Applies.LIVE, "SID of the account at `jambonz_api_url`")] = None
    jambonz_api_key: Annotated[Text | None, setting(Applies.LIVE, "API key of that account", is_secret=True)] = None

    def faults(self, config: "Config") -> Iterator[Fault]:
        """Finds an API of which only some settings are there, or which is not reached by https."""
        parts = (self.jambonz_api_url, self.jambonz_account_sid, self.jambonz_api_key)
        if any(parts) and not all(parts):
            yield Fault("jambonz_api_key", "must be set together with jambonz_api_url and jambonz_account_sid")
        url = self.jambonz_api_url
        if url is not None and not url.startswith(("https://", "http://127.0.0.1")):
            yield Fault("jambonz_api_url", f"must be https://host/v1, got {masked(url)!r}")
