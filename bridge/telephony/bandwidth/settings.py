"""The settings of the carrier Bandwidth."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, ClassVar

from bridge.config.fields import Applies, Fault, Section, Text, setting

if TYPE_CHECKING:
    from bridge.config import Config

__all__ = ["BandwidthSettings"]


class BandwidthSettings(Section, frozen=True, kw_only=True):
    """The settings of the carrier Bandwidth."""

    section: ClassVar[str] = "bandwidth"
    title: ClassVar[str] = "telephony: Bandwidth"

    bandwidth_secret: Annotated[
        tuple[Text, ...],
        setting(
            Applies.LIVE,
            "password of the application's callbacks, or `destinationPassword`; opens the bridge's endpoint for "
            "Bandwidth",
            is_secret=True,
        ),
    ] = ()
    bandwidth_account_id: Annotated[
        Text | None, setting(Applies.LIVE, "ID of the Bandwidth account, for hanging up and transferring by its API")
    ] = None
    bandwidth_client_id: Annotated[
        Text | None, setting(Applies.LIVE, "client ID of an API credential of that account")
    ] = None
    bandwidth_client_secret: Annotated[
        Text | None, setting(Applies.LIVE, "client secret of that credential", is_secret=True)
    ] = None

    def faults(self, config: "Config") -> Iterator[Fault]:
        """Finds settings that are only half of what a hang-up needs."""
        names = ("bandwidth_account_id", "bandwidth_client_id", "bandwidth_client_secret")
        missing = [name for name in names if getattr(self, name) is None]
        if missing and len(missing) < len(names):
            given = next(name for name in names if name not in missing)
            yield Fault(given, f"needs {' and '.join(missing)} as well")
