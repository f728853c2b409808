"""All settings of one daemon: a section for each room, and one for each carrier."""

from collections.abc import Iterator
from typing import TypeVar

from msgspec import Struct

from bridge.config.cluster import ClusterSettings
from bridge.config.fields import Fault, Section
from bridge.config.rooms import (
    AccessSettings,
    CallSettings,
    EngineSettings,
    ListenerSettings,
    LogSettings,
    MediaSettings,
    ObserveSettings,
    RecordingSettings,
    ServerSettings,
    TelephonySettings,
    UpstreamSettings,
)
from bridge.config.turn import TurnSettings

__all__ = ["Config"]

_S = TypeVar("_S", bound=Section)


class Config(Struct, frozen=True, kw_only=True):
    """All settings, by sections. A room gets its own section, never all of them."""

    server: ServerSettings = ServerSettings()
    access: AccessSettings = AccessSettings()
    media: MediaSettings = MediaSettings()
    turn: TurnSettings = TurnSettings()
    calls: CallSettings = CallSettings()
    listeners: ListenerSettings = ListenerSettings()
    cluster: ClusterSettings = ClusterSettings()
    upstream: UpstreamSettings = UpstreamSettings()
    engine: EngineSettings = EngineSettings()
    recording: RecordingSettings = RecordingSettings()
    telephony: TelephonySettings = TelephonySettings()
    observe: ObserveSettings = ObserveSettings()
    log: LogSettings = LogSettings()
    carriers: tuple[Section, ...] = ()
    """The sections of carriers. A carrier whose section is not here has its defaults."""

    @property
    def sections(self) -> Iterator[Section]:
        """All sections, those of carriers last."""
        for name in self.__struct_fields__:
            if name != "carriers":
                yield getattr(self, name)
        yield from self.carriers

    def of(self, kind: type[_S]) -> _S:
        """Returns the section of this type. If it is a carrier's that is not here, it has its defaults."""
        return next((section for section in self.sections if isinstance(section, kind)), kind())

    def faults(self) -> Iterator[Fault]:
        """Yields what is wrong with these settings, alone or together."""
        for section in self.sections:
            yield from section.faults(self)
