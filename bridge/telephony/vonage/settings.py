"""Vonage's settings."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, ClassVar

from bridge.config.fields import Applies, Fault, Section, Text, setting

if TYPE_CHECKING:
    from bridge.config import Config

__all__ = ["VonageSettings"]


class VonageSettings(Section, frozen=True, kw_only=True):
    """The settings of Vonage's Voice API."""

    section: ClassVar[str] = "vonage"
    title: ClassVar[str] = "telephony: Vonage"

    vonage_signature_secret: Annotated[
        tuple[Text, ...],
        setting(
            Applies.LIVE, "signature secret of a Vonage account; opens the bridge's endpoint for Vonage", is_secret=True
        ),
    ] = ()
    vonage_application_id: Annotated[
        Text | None, setting(Applies.LIVE, "ID of the Vonage application whose calls are accepted; unset: any")
    ] = None
    vonage_private_key: Annotated[
        Text | None,
        setting(Applies.LIVE, "private key (PEM) of that application, for hanging up and transferring", is_secret=True),
    ] = None

    def faults(self, config: "Config") -> Iterator[Fault]:
        """Finds a key that nothing can be signed with, and a key without the application that it belongs to."""
        if self.vonage_private_key is None:
            return
        if self.vonage_application_id is None:
            yield Fault("vonage_private_key", "needs vonage_application_id as well")
        if not _is_rsa_key(self.vonage_private_key):
            yield Fault("vonage_private_key", "must be an RSA key as PEM, without a password")


def _is_rsa_key(pem: str) -> bool:
    # It is imported only if a key is set: the help of the settings does not wait for it.
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        return isinstance(load_pem_private_key(pem.encode(), None), RSAPrivateKey)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return False
