"""AudioSocket's settings."""

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, ClassVar

from bridge.config.addresses import is_address
from bridge.config.fields import Applies, Fault, Port, Section, Text, setting

if TYPE_CHECKING:
    from bridge.config import Config

__all__ = ["AudioSocketSettings"]

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class AudioSocketSettings(Section, frozen=True, kw_only=True):
    """The settings of AudioSocket's own TCP port."""

    section: ClassVar[str] = "audiosocket"
    title: ClassVar[str] = "telephony: AudioSocket"

    audiosocket_port: Annotated[Port | None, setting(Applies.RESTART, "TCP port for AudioSocket; unset: closed")] = None
    audiosocket_host: Annotated[
        Text,
        setting(
            Applies.RESTART,
            "address to listen on for AudioSocket; keep it private, because AudioSocket has no encryption",
        ),
    ] = "127.0.0.1"
    audiosocket_uuid: Annotated[
        tuple[Text, ...],
        setting(Applies.LIVE, "reusable UUID that opens an AudioSocket call", is_secret=True),
    ] = ()

    def faults(self, config: "Config") -> Iterator[Fault]:
        """Finds a host that is a name, and a text that is not a UUID."""
        if self.audiosocket_host != "localhost" and not is_address(self.audiosocket_host):
            reason = f"must be an IP address or localhost, got {self.audiosocket_host!r}"
            yield Fault("audiosocket_host", reason)
        for uuid in self.audiosocket_uuid:
            if not _UUID.fullmatch(uuid):
                yield Fault("audiosocket_uuid", "must be a UUID in lower case, got a value that is not shown")
