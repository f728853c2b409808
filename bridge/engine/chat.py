"""A conversation in the words of chat completions, which any language model's server understands. Pure.

Of spoken items the words count: what was understood of the caller's, and what was heard of an answer that was cut.
A call's result follows the call at once, wherever it stands in the conversation, because servers insist on it.
"""

from collections.abc import Callable, Sequence
from typing import Any

from msgspec import UNSET

from bridge.wire import items
from bridge.wire.sessions import ChosenTool, FunctionTool, ToolChoice

__all__ = ["chat_messages", "chat_tool_choice", "chat_tools"]

_NOT_UNDERSTOOD = "(The caller spoke; the words were not understood.)"
_NO_RESULT = "(There is no result yet.)"

Body = dict[str, Any]


def chat_messages(history: Sequence[items.Item], instructions: str, words_of: Callable[[str], str]) -> list[Body]:
    """The messages of a request; ``words_of`` gives the words of a spoken item by its id, empty if none are known."""
    messages: list[Body] = [{"role": "system", "content": instructions}] if instructions else []
    results = {item.call_id: item.output for item in history if isinstance(item, items.FunctionCallOutput)}
    called: set[str] = set()
    turn: Body | None = None
    for item in history:
        if isinstance(item, items.FunctionCall):
            turn = turn or _opened_turn(messages)
            call_id = str(item.call_id)
            called.add(call_id)
            function = {"name": item.name, "arguments": item.arguments}
            turn.setdefault("tool_calls", []).append({"id": call_id, "type": "function", "function": function})
            result = results.get(call_id, _NO_RESULT)
            messages.append({"role": "tool", "tool_call_id": call_id, "content": result})
            continue
        turn = None
        if isinstance(item, items.Message):
            message = _message(item, words_of)
            if message is not None:
                messages.append(message)
                turn = message if item.role == "assistant" else None
        elif isinstance(item, items.FunctionCallOutput) and item.call_id not in called:
            messages.append({"role": "user", "content": f"A function returned: {item.output}"})
    return messages


def _opened_turn(messages: list[Body]) -> Body:
    """A turn of the model in which nothing was said."""
    turn: Body = {"role": "assistant", "content": None}
    messages.append(turn)
    return turn


def _message(item: items.Message, words_of: Callable[[str], str]) -> Body | None:
    """One message as chat completions have it; None if nothing is left of it."""
    item_id = str(item.id)
    parts: list[Body] = []
    for part in item.content:
        if isinstance(part, items.InputImage):
            image = {"url": part.image_url} | ({} if part.detail is UNSET else {"detail": part.detail})
            parts.append({"type": "image_url", "image_url": image})
            continue
        text = _text(part, words_of(item_id))
        if text:
            parts.append({"type": "text", "text": text})
    if not parts:
        return None
    if any(part["type"] != "text" for part in parts):
        return {"role": item.role, "content": parts}
    return {"role": item.role, "content": "\n".join(part["text"] for part in parts)}


def _text(part: items.Content, words: str) -> str:
    if isinstance(part, items.InputAudio):
        return words or part.transcript or _NOT_UNDERSTOOD
    if isinstance(part, items.OutputAudio):
        return words or (part.transcript if isinstance(part.transcript, str) else "")
    return "" if isinstance(part, items.InputImage) else part.text


def chat_tools(tools: Sequence[FunctionTool]) -> list[Body]:
    """The functions in the form of a request."""
    described = []
    for tool in tools:
        function: Body = {"name": tool.name, "parameters": tool.parameters or {"type": "object", "properties": {}}}
        if isinstance(tool.description, str):
            function["description"] = tool.description
        described.append({"type": "function", "function": function})
    return described


def chat_tool_choice(choice: ToolChoice) -> Any:
    """Whether a function must be called, and which one, in the form of a request."""
    if isinstance(choice, ChosenTool):
        return {"type": "function", "function": {"name": choice.name}} if choice.type == "function" else "auto"
    return choice
