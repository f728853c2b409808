"""What the commands for any server ask alike: which server, over what, with which key, and what is said.

The server's URL is the argument, or ``$BRIDGE_URL``, or this machine's. The key is ``--api-key``, or the first that the
environment has; the daemon's own variables are among them, so that on its machine nothing has to be given.
"""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from bridge.client.address import DEFAULT_MODEL, DEFAULT_URL, CallFailed
from bridge.client.call import Plan
from bridge.client.sound import read_sound

__all__ = [
    "KEY_VARIABLES",
    "URL_VARIABLE",
    "add_server_flags",
    "add_where_flags",
    "check_out",
    "key_of",
    "read_plan",
    "transport_of",
    "url_of",
]

URL_VARIABLE = "BRIDGE_URL"
"""Of the environment: the server, if a command is given none."""

KEY_VARIABLES = ("BRIDGE_API_KEY", "OPENAI_API_KEY")
"""Of the environment; the first that is set holds the key."""

_KEY_FILE_VARIABLE = "BRIDGE_API_KEY_FILE"  # of the daemon's own, if it has its keys from a file


def add_where_flags(parser: argparse.ArgumentParser, *, url_help: str = "server") -> None:
    """The flags that ``url_of`` and ``key_of`` read."""
    add = parser.add_argument
    add("url", nargs="?", metavar="URL", help=f"{url_help} (default: ${URL_VARIABLE}, or {DEFAULT_URL})")
    add("--api-key", metavar="KEY", help=f"default: {' or '.join(f'${name}' for name in KEY_VARIABLES)}")
    parser.set_defaults(usage_error=parser.error)


def url_of(arguments: argparse.Namespace, environ: Mapping[str, str]) -> str:
    """Which server is meant."""
    return arguments.url or environ.get(URL_VARIABLE) or DEFAULT_URL


def key_of(arguments: argparse.Namespace, environ: Mapping[str, str]) -> str | None:
    """What is shown to it; raises ``CallFailed`` if a file that should hold the key cannot be read.

    Of several keys of a daemon the first is taken.
    """
    if arguments.api_key:
        return str(arguments.api_key)
    own, foreign = (environ.get(name, "") for name in KEY_VARIABLES)
    if key := own.partition(",")[0].strip():
        return key
    if path := environ.get(_KEY_FILE_VARIABLE):
        try:
            return Path(path).read_text().split()[0]
        except (OSError, UnicodeError, IndexError):
            words = f"{_KEY_FILE_VARIABLE}: no key can be read from {path}; give one by --api-key."
            raise CallFailed(words) from None
    return foreign or None


def add_server_flags(parser: argparse.ArgumentParser, *, sound_help: str) -> None:
    """The flags that ``read_plan`` reads; ``sound_help`` says what ``--in`` means."""
    add_where_flags(parser, url_help="server, API root or full path")
    add = parser.add_argument
    add("--in", dest="sound", metavar="FILE", help=sound_help)
    add(
        "--transport",
        choices=("webrtc", "websocket"),
        help="default: websocket where the URL begins with ws: or wss:, else webrtc",
    )
    add("--model", help=f"default: {DEFAULT_MODEL}")
    add("--instructions", metavar="TEXT", help="instructions for the session")


def transport_of(arguments: argparse.Namespace, environ: Mapping[str, str]) -> Literal["webrtc", "websocket"]:
    """Which was asked for, by name or by URL."""
    if arguments.transport is not None:
        return "webrtc" if arguments.transport == "webrtc" else "websocket"
    return "websocket" if url_of(arguments, environ).lower().startswith(("ws:", "wss:")) else "webrtc"


def read_plan(arguments: argparse.Namespace, environ: Mapping[str, str]) -> Plan:
    """The call that the flags describe; raises ``CallFailed`` where the sound cannot be read."""
    return Plan(
        url=url_of(arguments, environ),
        transport=transport_of(arguments, environ),
        model=arguments.model,
        api_key=key_of(arguments, environ),
        pcm=read_sound(arguments.sound) if arguments.sound is not None else b"",
        instructions=arguments.instructions,
    )


def check_out(path: str | None) -> None:
    """Raises ``CallFailed`` where nothing can be written: before a call is made for it."""
    if path and not Path(path).absolute().parent.is_dir():
        raise CallFailed(f"{path} cannot be written: there is no such directory.")
