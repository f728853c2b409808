"""The settings of jambonz."""

from typing import Annotated, ClassVar

from bridge.config.fields import Applies, Section, Text, setting

__all__ = ["JambonzSettings"]


class JambonzSettings(Section, frozen=True, kw_only=True):
    """The settings of jambonz' listen."""

    section: ClassVar[str] = "jambonz"
    title: ClassVar[str] = "telephony: jambonz"

    jambonz_secret: Annotated[
        tuple[Text, ...],
        setting(
            Applies.LIVE,
            "password of jambonz' `wsAuth` and of its webhook's HTTP Basic; opens its endpoint",
            is_secret=True,
        ),
    ] = ()
    jambonz_webhook_secret: Annotated[
        tuple[Text, ...],
        setting(Applies.LIVE, "secret by which jambonz.cloud signs webhooks, in place of HTTP Basic", is_secret=True),
    ] = ()
