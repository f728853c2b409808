"""Finds the server and the key of a command, by its flags and the environment, for all commands that ask a server.

The server's URL is the argument, or ``$BRIDGE_URL``, or this machine's. The key is ``--api-key``, or the first that the
environment has. The daemon's own variables are among them, so that on its machine nothing has to be given. This module
imports nothing that sound or WebRTC needs, so that a list of calls shows at once.
"""

import argparse
from collections.abc import Mapping
from pathlib import Path

from bridge.client.address import DEFAULT_URL, CallFailed

__all__ = ["KEY_VARIABLES", "URL_VARIABLE", "add_where_flags", "key_of", "url_of"]

URL_VARIABLE = "BRIDGE_URL"
"""The environment variable with the server's URL, for a command that is given none."""

KEY_VARIABLES = ("BRIDGE_API_KEY", "OPENAI_API_KEY")
"""The environment variables that may hold the key. The first one that is set counts."""

_KEY_FILE_VARIABLE = "BRIDGE_API_KEY_FILE"  # the daemon's own, if its keys are in a file


def add_where_flags(parser: argparse.ArgumentParser, *, url_help: str = "server") -> None:
    """Adds the flags that ``url_of`` and ``key_of`` read."""
    add = parser.add_argument
    add("url", nargs="?", metavar="URL", help=f"{url_help} (default: ${URL_VARIABLE}, or {DEFAULT_URL})")
    add("--api-key", metavar="KEY", help=f"default: {' or '.join(f'${name}' for name in KEY_VARIABLES)}")
    parser.set_defaults(usage_error=parser.error)


def url_of(arguments: argparse.Namespace, environ: Mapping[str, str]) -> str:
    """Returns the URL of the server that is meant."""
    return arguments.url or environ.get(URL_VARIABLE) or DEFAULT_URL


def key_of(arguments: argparse.Namespace, environ: Mapping[str, str]) -> str | None:
    """Returns the key for the server; raises ``CallFailed`` if a file that should hold the key cannot be read.

    If a daemon has several keys, the first is taken.
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
            words = f"{_KEY_FILE_VARIABLE}: no key can be read from {path}; give one with --api-key."
            raise CallFailed(words) from None
    return foreign or None
