"""What ``bridge call`` and ``bridge bench`` ask alike: which server, over what, with which key, and what is said."""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from bridge.client.address import DEFAULT_MODEL, DEFAULT_URL, CallFailed
from bridge.client.call import Plan
from bridge.client.sound import read_sound

__all__ = ["KEY_VARIABLES", "add_server_flags", "check_out", "read_plan", "transport_of"]

KEY_VARIABLES = ("BRIDGE_API_KEY", "OPENAI_API_KEY")
"""Of the environment; the first that is set holds the key."""


def add_server_flags(parser: argparse.ArgumentParser, *, sound_help: str) -> None:
    """The flags that ``read_plan`` reads; ``sound_help`` says what ``--in`` means."""
    add = parser.add_argument
    add(
        "url",
        nargs="?",
        default=DEFAULT_URL,
        metavar="URL",
        help=f"server, API root or full path (default: {DEFAULT_URL})",
    )
    add("--in", dest="sound", metavar="FILE", help=sound_help)
    add(
        "--transport",
        choices=("webrtc", "websocket"),
        help="default: websocket where the URL begins with ws: or wss:, else webrtc",
    )
    add("--model", help=f"default: {DEFAULT_MODEL}")
    add("--api-key", metavar="KEY", help=f"default: {' or '.join(f'${name}' for name in KEY_VARIABLES)}")
    add("--instructions", metavar="TEXT", help="instructions for the session")
    parser.set_defaults(usage_error=parser.error)


def transport_of(arguments: argparse.Namespace) -> Literal["webrtc", "websocket"]:
    """Which was asked for, by name or by URL."""
    if arguments.transport is not None:
        return "webrtc" if arguments.transport == "webrtc" else "websocket"
    return "websocket" if arguments.url.lower().startswith(("ws:", "wss:")) else "webrtc"


def read_plan(arguments: argparse.Namespace, environ: Mapping[str, str]) -> Plan:
    """The call that the flags describe; raises ``CallFailed`` where the sound cannot be read."""
    return Plan(
        url=arguments.url,
        transport=transport_of(arguments),
        model=arguments.model,
        api_key=arguments.api_key or next((environ[name] for name in KEY_VARIABLES if environ.get(name)), None),
        pcm=read_sound(arguments.sound) if arguments.sound is not None else b"",
        instructions=arguments.instructions,
    )


def check_out(path: str | None) -> None:
    """Raises ``CallFailed`` where nothing can be written: before a call is made for it."""
    if path and not Path(path).absolute().parent.is_dir():
        raise CallFailed(f"{path} cannot be written: there is no such directory.")
