"""Twilio's settings."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from bridge.config.fields import Applies, Fault, Section, Text, setting
from bridge.config.words import masked

if TYPE_CHECKING:
    from bridge.config import Config

__all__ = ["TwilioSettings"]


class TwilioSettings(Section, frozen=True, kw_only=True):
    """The settings of Twilio Media Streams."""

    section: ClassVar[str] = "twilio"
    title: ClassVar[str] = "telephony: Twilio"

    twilio_auth_token: Annotated[
        tuple[Text, ...],
        setting(
            Applies.LIVE,
            "auth token or signing key of a Twilio account; opens the bridge's endpoint for Twilio",
            is_secret=True,
        ),
    ] = ()
    twilio_account_sid: Annotated[
        Text | None,
        setting(
            Applies.LIVE, "SID of that account (`AC…`), for transferring calls; used with the first `twilio_auth_token`"
        ),
    ] = None
    twilio_api_url: Annotated[
        Text | None,
        setting(
            Applies.LIVE,
            "`https://SPACE.signalwire.com/api/laml/2010-04-01`, for transferring SignalWire's calls; unset: Twilio's "
            "API",
        ),
    ] = None
    twilio_require_token: Annotated[
        bool, setting(Applies.LIVE, "also require a single-use token from each Twilio stream, in its parameter `token`")
    ] = True

    twilio_sign_in: Annotated[
        Literal["signature", "token", "either"],
        setting(
            Applies.LIVE,
            "what opens a stream in Twilio's dialect: Twilio's signature, or only a single-use token, as SignalWire "
            "and sipgate's bridge need",
        ),
    ] = "signature"

    def faults(self, config: "Config") -> Iterator[Fault]:
        """Finds signatures that could not be checked, and an API that is not reached by https."""
        url = self.twilio_api_url
        if url is not None and not url.startswith(("https://", "http://127.0.0.1")):
            yield Fault("twilio_api_url", f"must be https://host/path, got {masked(url)!r}")
        if self.twilio_auth_token and config.telephony.public_url is None:
            yield Fault("twilio_auth_token", "needs public_url as well: a signature covers the whole URL")
