"""Tools that a service runs by itself, such as an MCP server that it asks: not for everybody to name."""

from typing import Any

from bridge.errors import Forbidden

__all__ = ["refuse_hosted_tools"]

_OWN = ("function", "custom")
"""Kinds of tools that the application runs."""


def refuse_hosted_tools(asked: Any, path: str = "") -> None:
    """Raises ``Forbidden``, naming the field, if a list of tools anywhere in ``asked`` has one that the service runs.

    Such a tool takes what is said to a place that the client names, and costs whoever pays for the service.
    """
    waiting = [(asked, path)]
    while waiting:
        value, path = waiting.pop()
        if isinstance(value, list):
            waiting += [(part, f"{path}[{index}]") for index, part in enumerate(value)]
        elif isinstance(value, dict):
            for name, part in value.items():
                inner = f"{path}.{name[:64]}" if path else name[:64]
                if name == "tools" and isinstance(part, list):
                    _require_own(part, inner)
                else:
                    waiting.append((part, inner))


def _require_own(tools: list[Any], path: str) -> None:
    for index, tool in enumerate(tools):
        if not isinstance(tool, dict) or tool.get("type") not in _OWN:
            message = (
                "With this key, tools can only be functions of the application; other tools must be set when the key "
                "is minted."
            )
            raise Forbidden(message, param=f"{path}[{index}].type"[:256])
