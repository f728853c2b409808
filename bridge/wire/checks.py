"""The checks of sessions, items and responses that their types cannot express. A ``BadEvent`` names the field."""

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
from msgspec import UNSET, Struct, UnsetType

from bridge.errors import BadEvent
from bridge.wire.items import (
    FunctionCall,
    FunctionCallOutput,
    InputAudio,
    InputImage,
    InputText,
    Item,
    ItemReference,
    Message,
    OutputAudio,
    OutputText,
    ResponseConfig,
)
from bridge.wire.sessions import ChosenTool, FunctionTool, McpTool, SessionConfig, ToolChoice

__all__ = [
    "MAX_TEXT_BYTES",
    "check_choice",
    "check_item",
    "check_response",
    "check_session",
    "check_update",
    "require_id",
    "require_shallow",
    "require_tellable",
]

_CONTENT: dict[str, tuple[type[Struct], ...]] = {
    "user": (InputText, InputAudio, InputImage),
    "assistant": (OutputText, OutputAudio),
    "system": (InputText,),
}
_MAX_ID_CHARS = 512
_HEADROOM = 200  # levels of nesting, and of the stack, that a value needs around it if it is sent again
_MIB = 1024 * 1024
MAX_TEXT_BYTES = _MIB
_MAX_TOLD_BYTES = 6 * _MIB  # what is sent again must fit into the 8 MiB that openai-agents reads as one message

Tools = Sequence[FunctionTool | McpTool]


def check_session(session: SessionConfig) -> None:
    """Checks a session with which a request begins; raises ``BadEvent``."""
    check_update(session)
    check_choice(session.tool_choice, session.tools, "session")


def check_update(session: SessionConfig) -> None:
    """Checks an update of a session; raises ``BadEvent``. ``check_choice`` is for the whole that the update makes."""
    _check_tools(session.tools, "session")


def _check_tools(tools: Tools | UnsetType, path: str) -> None:
    """Raises ``BadEvent`` unless each function has a name that no other function has."""
    names: set[str] = set()
    for index, tool in enumerate(() if tools is UNSET else tools):
        if not isinstance(tool, FunctionTool):
            continue
        param = f"{path}.tools[{index}].name"
        if not tool.name:
            raise BadEvent("A function's name must not be empty.", param=param)
        if tool.name in names:
            raise BadEvent(f"Two functions are called '{tool.name[:64]}'.", param=param)
        names.add(tool.name)


def check_choice(choice: ToolChoice | UnsetType, tools: Tools | UnsetType, path: str) -> None:
    """Raises ``BadEvent`` if the tool that is forced is none of the tools."""
    if not isinstance(choice, ChosenTool):
        return
    field = "name" if choice.type == "function" else "server_label"
    param, chosen = f"{path}.tool_choice.{field}", getattr(choice, field)
    if chosen is UNSET:
        raise BadEvent(f"Missing required parameter: '{param}'.", code="missing_required_parameter", param=param)
    kind = FunctionTool if choice.type == "function" else McpTool
    if chosen not in [getattr(tool, field) for tool in (() if tools is UNSET else tools) if isinstance(tool, kind)]:
        raise BadEvent(f"'{chosen[:64]}' is not one of the tools.", param=param)


def check_response(response: ResponseConfig) -> None:
    """Checks what a ``response.create`` asks for; raises ``BadEvent``."""
    _check_tools(response.tools, "response")
    for index, item in enumerate(response.input if response.input is not UNSET else ()):
        path = f"response.input[{index}]"
        if isinstance(item, ItemReference):
            require_id(item.id, path)
        else:
            _check_item(item, path)


def check_item(item: Item) -> None:
    """Checks an item that a client creates; raises ``BadEvent``."""
    _check_item(item, "item")


def _check_item(item: Item, path: str) -> None:
    require_id(item.id, path)
    if isinstance(item, FunctionCall | FunctionCallOutput) and item.call_id == "":
        raise BadEvent("A call_id must not be empty.", param=f"{path}.call_id")
    if not isinstance(item, Message):
        return
    for index, part in enumerate(item.content):
        takes = _CONTENT[item.role]
        if not isinstance(part, takes):
            tag, names = part.__struct_config__.tag, ", ".join(str(kind.__struct_config__.tag) for kind in takes)
            message = f"Invalid value: '{tag}'. The content of {item.role} messages is {names}."
            raise BadEvent(message, param=f"{path}.content[{index}].type")


def require_id(item_id: str | UnsetType, path: str) -> None:
    """Raises ``BadEvent`` if the id of the item at ``path`` is empty or too long."""
    if item_id is not UNSET and not 1 <= len(item_id) <= _MAX_ID_CHARS:
        raise BadEvent(f"An ID must have 1 to {_MAX_ID_CHARS} characters.", param=f"{path}.id")


# What can be sent again


def require_shallow(value: Any) -> int:
    """Returns the size of ``value`` as JSON; raises ``BadEvent`` if it is nested too deeply to be written again."""
    for _ in range(_HEADROOM):
        value = [value]
    try:
        return len(msgspec.json.encode(value)) - 2 * _HEADROOM
    except RecursionError:
        raise BadEvent("The message is nested too deeply.") from None


def require_tellable(value: Any, path: str) -> None:
    """Raises ``BadEvent`` if JSON could be read here, but not by the clients that it is sent to.

    Sound does not count, because it is not sent again.
    """
    size = require_shallow(value)
    if size <= MAX_TEXT_BYTES:
        return
    for name, text in _texts(value, path):
        if name.endswith(".audio"):
            size -= len(text)
        elif not name.endswith(".image_url") and len(text.encode()) > MAX_TEXT_BYTES:
            message = f"'{name}' is over the limit of {MAX_TEXT_BYTES // _MIB} MiB of text."
            raise BadEvent(message, code="string_above_max_length", param=name)
    if size > _MAX_TOLD_BYTES:
        message = f"'{path}' is over the limit of {_MAX_TOLD_BYTES // _MIB} MiB without its sound."
        raise BadEvent(message, code="string_above_max_length", param=path)


def _texts(value: Any, path: str) -> Iterator[tuple[str, str]]:
    """Yields every text in ``value`` with its path."""
    places = [(path, value)]
    while places:
        path, value = places.pop()
        if isinstance(value, str):
            yield path, value
        elif isinstance(value, dict):
            places += [(f"{path}.{key}", inner) for key, inner in value.items()]
        elif isinstance(value, list):
            places += [(f"{path}[{index}]", inner) for index, inner in enumerate(value)]
