"""Settings: one Struct for each room, read from a TOML file, the environment and flags, and checked together."""

from bridge.config.addresses import is_loopback
from bridge.config.cluster import ClusterSettings
from bridge.config.config import Config
from bridge.config.fields import Applies, Fault, Section, setting
from bridge.config.flags import add_flags, settings_table
from bridge.config.load import load, of_flat
from bridge.config.rooms import (
    ANY_ORIGIN,
    MINTED_PREFIX,
    ORIGIN_PATTERN,
    AccessSettings,
    CallSettings,
    EngineSettings,
    ListenerSettings,
    LogSettings,
    MediaSettings,
    NamedUpstream,
    ObserveSettings,
    RecordingSettings,
    ServerSettings,
    TelephonySettings,
    UpstreamSettings,
)
from bridge.config.turn import TurnSettings

__all__ = [
    "ANY_ORIGIN",
    "MINTED_PREFIX",
    "ORIGIN_PATTERN",
    "AccessSettings",
    "Applies",
    "CallSettings",
    "ClusterSettings",
    "Config",
    "EngineSettings",
    "Fault",
    "ListenerSettings",
    "LogSettings",
    "MediaSettings",
    "NamedUpstream",
    "ObserveSettings",
    "RecordingSettings",
    "Section",
    "ServerSettings",
    "TelephonySettings",
    "TurnSettings",
    "UpstreamSettings",
    "add_flags",
    "is_loopback",
    "load",
    "of_flat",
    "setting",
    "settings_table",
]
