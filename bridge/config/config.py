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
    """The sections by their rooms. A room is handed its own section, never all of them."""

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
    """Those of carriers; one that is not here has its defaults."""

    @property
    def sections(self) -> Iterator[Section]:
        """All of them, those of carriers last."""
        for name in self.__struct_fields__:
            if name != "carriers":
                yield getattr(self, name)
        yield from self.carriers

    def of(self, kind: type[_S]) -> _S:
        """The section of this type, with its defaults if it is a carrier's that is not here."""
        return next((section for section in self.sections if isinstance(section, kind)), kind())

    def faults(self) -> Iterator[Fault]:
        """What is wrong with these settings beside each other."""
        for section in self.sections:
            yield from section.faults(self)
