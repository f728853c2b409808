"""Shows the settings as a TOML file without secrets, with the source of each value."""

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from bridge.config.config import Config
from bridge.config.fields import Setting, settings_of
from bridge.config.words import masked
from bridge.config.workers import settings_of_worker

__all__ = ["shown"]

_MASKED = "***"
_SOURCE_COLUMN = 44


def shown(config: Config, origins: Mapping[str, str]) -> str:
    """Returns all settings, with a table for each section.

    ``origins`` says where the value of a setting came from; a setting that is not in it has its default.
    """
    lines: list[str] = []
    for section in config.sections:
        lines += ["", f"[{section.section}]"]
        tables: list[str] = []
        for name, one in settings_of([type(section)]).items():
            value = getattr(section, name)
            origin = origins.get(name, "default")
            if one.is_table:
                tables += _tables(name, value, origin)
            else:
                text = f"# {name} is unset" if value is None else f"{name} = {_literal(one, value)}"
                lines.append(f"{text:<{_SOURCE_COLUMN}}  # {origin}")
        lines += tables
    lines += _workers(config)
    return "\n".join(lines[1:]) + "\n"


def _workers(config: Config) -> Iterator[str]:
    """Yields a comment for each worker with what it has of its own."""
    for number in range(config.cluster.workers):
        own = settings_of_worker(config, number)
        told: dict[str, Any] = {
            "udp_port": own.media.udp_port,
            "ice_tcp_port": own.media.ice_tcp_port,
            "record_dir": own.recording.record_dir,
            "node_url": own.cluster.node_url,
        }
        shown = ", ".join(f"{name} = {_plain(value)}" for name, value in told.items() if value is not None)
        yield f"{'' if number else chr(10)}# worker {number}: {shown}"


def _tables(name: str, tables: Mapping[str, msgspec.Struct], origin: str) -> Iterator[str]:
    for key, table in tables.items():
        yield ""
        yield f"{f'[{name}.{_text(key) if not key.isidentifier() else key}]':<{_SOURCE_COLUMN}}  # {origin}"
        for field, value in msgspec.structs.asdict(table).items():
            if value is not None:
                yield f"{field} = {_plain(_MASKED if field == 'key' else value)}"


def _literal(one: Setting, value: Any) -> str:
    if one.is_secret:
        value = (_MASKED,) * len(value) if one.is_list else _MASKED
    return _plain(value)


def _plain(value: Any) -> str:
    match value:
        case bool():
            return str(value).lower()
        case int() | float():
            return repr(value)
        case tuple():
            return f"[{', '.join(map(_plain, value))}]"
    return _text(masked(str(value)) if "//" in str(value) else str(value))


def _text(value: str) -> str:
    """Returns a basic string of TOML. It is one of JSON, but for ``\\u007f``, which JSON leaves as it is."""
    return msgspec.json.encode(value).decode().replace("\x7f", "\\u007f")
