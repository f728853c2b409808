"""Fills the generated parts of ``docs`` from the code: ``python -m tools.reference``.

A page is written by hand, but for what stands between ``<!-- generated: NAME -->`` and ``<!-- end -->``. Each NAME is
one function here, but for the way of a packet, which ``tools.packet_path`` draws. A test compares the pages with what
the code says now.
"""

import json
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, get_args

import bridge.wire.binary
from bridge.api.describe import asyncapi, openapi
from bridge.api.reload import OPERATIONS as RELOAD_OPERATIONS
from bridge.cluster.member import OPERATIONS as NODE_OPERATIONS
from bridge.config import settings_table
from bridge.errors import BridgeError
from bridge.observe.observer import OPERATIONS
from bridge.telephony.service import operations_of
from bridge.telephony.settings import carrier_sections
from bridge.wire.client_events import ClientEvent
from bridge.wire.translations import CLIENT_EVENTS as TRANSLATION_CLIENT_EVENTS
from tools.commands import commands_text, examinations_table, figures_table
from tools.meanings import LOG_EVENTS
from tools.metrics import metrics_table
from tools.networks import networks_table
from tools.schemas import cell, field_table, type_of
from tools.sources import ROOT, error_classes, error_codes, log_lines, room_captions, room_imports

__all__ = ["BLOCKS", "fill", "main", "names_in", "pages"]

_BLOCK = re.compile(r"(<!-- generated: ([a-z-]+) -->\n).*?(<!-- end -->)", re.DOTALL)
_EVERYWHERE = frozenset({"errors", "log", "config"})  # rooms that any other may import: drawn without arrows
_STARTS = ("__main__",)
_MAX_MESSAGES = 3
_TRANSLATION = "translation."


def pages() -> dict[Path, str]:
    """Each page with generated parts, as it should be now."""
    texts = {path: path.read_text() for path in sorted((ROOT / "docs").rglob("*.md"))}
    used = {name for text in texts.values() for name in names_in(text)}
    made = {name: make() for name, make in BLOCKS.items() if name in used}
    return {path: fill(text, made) for path, text in texts.items() if _BLOCK.search(text)}


def fill(text: str, made: Mapping[str, str]) -> str:
    """``text`` with those generated parts replaced that ``made`` has."""

    def replaced(block: re.Match[str]) -> str:
        return f"{block[1]}\n{made[block[2]].strip()}\n\n{block[3]}" if block[2] in made else block[0]

    return _BLOCK.sub(replaced, text)


def names_in(text: str) -> list[str]:
    """Those of the generated parts of a page."""
    return [match[2] for match in _BLOCK.finditer(text)]


def main() -> int:
    """Writes the pages that differ, and names them."""
    for path, text in pages().items():
        if path.read_text() != text:
            path.write_text(text)
            sys.stdout.write(f"{path.relative_to(ROOT)}\n")
    return 0


def _openapi() -> Mapping[str, Any]:
    return openapi([*operations_of(), *OPERATIONS, *RELOAD_OPERATIONS, *NODE_OPERATIONS])


def _http() -> str:
    lines: list[str] = []
    for path, operations in _openapi()["paths"].items():
        for method, operation in operations.items():
            is_socket = "101" in operation["responses"]
            lines += [f"### {'WebSocket' if is_socket else method.upper()} {path}", "", cell(operation["summary"]), ""]
            if operation.get("security") == []:
                lines += ["No API key is asked for.", ""]
            query = [one for one in operation.get("parameters", ()) if one["in"] == "query"]
            if query and not is_socket:
                lines += [*_query_table({one["name"]: one["schema"] for one in query}), ""]
            if "requestBody" in operation:
                lines += [f"- **Request**: {_content(operation['requestBody'])}"]
            for status, response in operation["responses"].items():
                if status.isdecimal():
                    lines += [f"- **{status}**: {_content(response) or 'no body'}"]
                    lines += [
                        f"- **`{name}`**: {cell(header['description'])}"
                        for name, header in response.get("headers", {}).items()
                    ]
            lines.append("")
    return "\n".join(lines)


def _http_types() -> str:
    return _types(_openapi()["components"]["schemas"])


def _choices() -> str:
    return "\n".join(_query_table(_channel("realtime")))


def _watch_choices() -> str:
    return "\n".join(_query_table(_channel("calls")))


def _client_events() -> str:
    return "\n".join(_event_tables(_messages(is_client=True), others=_messages(is_client=False)))


def _server_events() -> str:
    return "\n".join(_event_tables(_messages(is_client=False)))


def _event_types() -> str:
    return _types_of(_all_messages())


def _live_types() -> str:
    return _types_of(_all_messages(is_live=True))


def _types_of(messages: Mapping[str, Mapping[str, Any]]) -> str:
    """The types that fields of these messages have, and fields of those, and so on."""
    schemas = asyncapi()["components"]["schemas"]
    tops = {message["payload"]["$ref"].rpartition("/")[2] for message in messages.values()}
    found, waiting = set(tops), list(tops)
    while waiting:
        for name in re.findall(r"#/components/schemas/([^\"]+)", json.dumps(schemas[waiting.pop()])):
            if name not in found:
                found.add(name)
                waiting.append(name)
    return _types({name: schema for name, schema in schemas.items() if name in found - tops})


def _live_client_events() -> str:
    messages = _all_messages(is_live=True)
    client = {name: message for name, message in messages.items() if name.startswith("live.client.")}
    server = [str(message["name"]) for name, message in messages.items() if name not in client]
    return "\n".join(_event_tables(client, others=server))


def _live_server_events() -> str:
    messages = _all_messages(is_live=True)
    return "\n".join(
        _event_tables({name: one for name, one in messages.items() if not name.startswith("live.client.")})
    )


def _binary_frames() -> str:
    _, _, text = (bridge.wire.binary.__doc__ or "").partition("\n\n")
    return text.replace("``", "`")


def _error_classes() -> str:
    lines = ["| error | `type` | default `code` | HTTP | close code | try again | meaning |", "|---" * 7 + "|"]
    for kind in error_classes():
        if kind is not BridgeError:
            again = "yes" if kind.retryable else ""
            meaning = cell((kind.__doc__ or "").split("\n\n")[0])
            cells = (f"`{kind.__name__}`", f"`{kind.type}`", f"`{kind.code}`", kind.http_status, kind.close_code, again)
            lines.append(f"| {' | '.join(map(str, (*cells, meaning)))} |")
    return "\n".join(lines)


def _error_codes() -> str:
    lines = ["| `code` | HTTP | error | what it says |", "|---|---|---|---|"]
    for error in error_codes():
        many = len(error.messages) > _MAX_MESSAGES
        said = (
            "many messages: each names the field and what is wrong" if many else " · ".join(map(cell, error.messages))
        )
        lines.append(f"| `{error.code}` | {error.kind.http_status} | `{error.kind.__name__}` | {said} |")
    return "\n".join(lines)


def _logs() -> str:
    found = log_lines()
    known, now = LOG_EVENTS.keys(), {line.event for line in found}
    if known != now:
        raise ValueError(f"tools/meanings.py: needs {sorted(now - known)}, and has no use for {sorted(known - now)}")
    lines = ["| event | level | keys | meaning |", "|---|---|---|---|"]
    for line in found:
        keys = ", ".join(f"`{key}`" for key in line.keys if key != "…") + (", and others" if "…" in line.keys else "")
        lines.append(f"| `{line.event}` | {line.level} | {keys.removeprefix(', ')} | {cell(LOG_EVENTS[line.event])} |")
    return "\n".join(lines)


def _rooms() -> str:
    """An arrow for each import that is not to be read off others: who imports a room sees what is under it."""
    imports = {room: targets - _EVERYWHERE for room, targets in room_imports().items()}
    drawn = {room: targets for room, targets in imports.items() if room not in {*_EVERYWHERE, *_STARTS}}
    lines = ["```mermaid", "flowchart TD"]
    below = {room: _reached(room, drawn) for room in drawn}
    for room, targets in sorted(drawn.items()):
        lines += [
            f"    {room} --> {target}"
            for target in sorted(targets)
            if not any(target in below[other] and other not in below[target] for other in targets)
        ]
    captions = [f"| `{room}` | {cell(caption)} |" for room, caption in sorted(room_captions().items())]
    return "\n".join([*lines, "```", "", "| room | what it is for |", "|---|---|", *captions])


def _reached(room: str, imports: Mapping[str, set[str]]) -> set[str]:
    """All that ``room`` imports, and what that imports."""
    found: set[str] = set()
    waiting = set(imports.get(room, ()))
    while waiting:
        found |= waiting
        waiting = {further for target in waiting for further in imports.get(target, ())} - found
    return found


def _channel(name: str) -> Mapping[str, Any]:
    query: Mapping[str, Any] = asyncapi()["channels"][name]["bindings"]["ws"]["query"]["properties"]
    return query


def _query_table(properties: Mapping[str, Any]) -> list[str]:
    return field_table({"properties": properties}, column="parameter")


def _content(body: Mapping[str, Any]) -> str:
    """The media types of a body, and what each holds."""
    said = []
    for media, content in body.get("content", {}).items():
        schema = content["schema"]
        said.append(f"`{media}`" if schema == {"type": "string"} else f"`{media}`, {type_of(schema)}")
    return "; or ".join(said)


def _types(schemas: Mapping[str, Any]) -> str:
    lines: list[str] = []
    for name, schema in sorted(schemas.items()):
        lines += [f"### {name}", "", cell(schema.get("description", "")), ""]
        table = field_table(schema)
        lines += [*(table or [_alternatives(schema)]), ""]
    return "\n".join(lines)


def _alternatives(schema: Mapping[str, Any]) -> str:
    """Of a type without fields: the values, or the types, that it is one of."""
    values = [f"`{value}`" for value in schema.get("enum", ())]
    names = [choice["$ref"].rpartition("/")[2] for choice in schema.get("anyOf", ()) if "$ref" in choice]
    choices = values + [f"[{name}](#{name.lower()})" for name in names]
    return f"One of {', '.join(choices)}." if choices else "No fields."


def _all_messages(*, is_live: bool = False) -> dict[str, Mapping[str, Any]]:
    """The events that are JSON, Realtime's or Live's, by their id in the description."""
    messages: dict[str, Mapping[str, Any]] = asyncapi()["components"]["messages"]
    return {
        name: message
        for name, message in messages.items()
        if "$ref" in message["payload"] and name.startswith("live.") is is_live
    }


def _messages(*, is_client: bool) -> dict[str, Mapping[str, Any]]:
    names = {kind.__name__ for kind in get_args(ClientEvent)}
    return {
        key: message
        for key, message in _all_messages().items()
        if (message["payload"]["$ref"].rpartition("/")[2] in names) is is_client and not key.startswith(_TRANSLATION)
    }


def _translation_events() -> str:
    """The events of translations, whose names other events have, too."""
    lines: list[str] = []
    for is_client in (True, False):
        names = {kind.__name__ for kind in TRANSLATION_CLIENT_EVENTS}
        messages = {
            key: message
            for key, message in _all_messages().items()
            if (message["payload"]["$ref"].rpartition("/")[2] in names) is is_client and key.startswith(_TRANSLATION)
        }
        lines += _event_tables(messages, about="translation, client" if is_client else "translation")
    return "\n".join(lines)


def _event_tables(
    messages: Mapping[str, Mapping[str, Any]], others: Iterable[str] = (), *, about: str = ""
) -> list[str]:
    schemas = asyncapi()["components"]["schemas"]
    lines: list[str] = []
    for message in sorted(messages.values(), key=lambda message: str(message["name"])):
        name = str(message["name"])
        heading = f"{name} (client)" if name in others else f"{name} ({about})" if about else name
        schema = schemas[message["payload"]["$ref"].rpartition("/")[2]]
        fields = {field: inner for field, inner in schema["properties"].items() if field != "type"}
        lines += [f"### {heading}", "", cell(message["summary"]), ""]
        lines += [*field_table({**schema, "properties": fields}), ""]
    return lines


BLOCKS: dict[str, Callable[[], str]] = {
    "binary-frames": _binary_frames,
    "choices": _choices,
    "commands": commands_text,
    "examinations": examinations_table,
    "figures": figures_table,
    "client-events": _client_events,
    "error-classes": _error_classes,
    "error-codes": _error_codes,
    "event-types": _event_types,
    "http": _http,
    "live-client-events": _live_client_events,
    "live-server-events": _live_server_events,
    "live-types": _live_types,
    "http-types": _http_types,
    "logs": _logs,
    "metrics": metrics_table,
    "networks": networks_table,
    "rooms": _rooms,
    "server-events": _server_events,
    "settings": lambda: settings_table(carrier_sections()),
    "translation-events": _translation_events,
    "watch-choices": _watch_choices,
}

if __name__ == "__main__":
    sys.exit(main())
