"""Which server a command asks and with which key, by its flags and the environment: for all commands that ask one.

The server's URL is the argument, or ``$BRIDGE_URL``, or this machine's. The key is ``--api-key``, or the first that the
environment has; the daemon's own variables are among them, so that on its machine nothing has to be given. Nothing is
imported here that sound or WebRTC needs: a list of calls shows at once.
"""

import argparse
from collections.abc import Mapping
from pathlib import Path

from bridge.client.address import DEFAULT_URL, CallFailed

__all__ = ["KEY_VARIABLES", "URL_VARIABLE", "add_where_flags", "key_of", "url_of"]

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
