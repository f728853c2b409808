"""The flags that ``bridge call`` and ``bridge bench`` share: the server, the transport, the key, and what is said."""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from bridge.client.address import DEFAULT_MODEL, CallFailed
from bridge.client.call import Plan
from bridge.client.carriers.dialling import Dialling
from bridge.client.carriers.table import SIMULATORS
from bridge.client.phone_call import PhonePlan
from bridge.client.sound import read_sound
from bridge.client.where import add_where_flags, key_of, url_of

__all__ = ["add_server_flags", "check_out", "read_phone_plan", "read_plan", "transport_of", "transport_of_url"]


def add_server_flags(parser: argparse.ArgumentParser, *, sound_help: str) -> None:
    """Adds the flags that ``read_plan`` reads; ``sound_help`` says what ``--in`` means."""
    add_where_flags(parser, url_help="server, API root or full path")
    add = parser.add_argument
    add("--in", dest="sound", metavar="FILE", help=sound_help)
    add(
        "--transport",
        choices=("webrtc", "websocket"),
        help="default: websocket if the URL begins with ws: or wss:, else webrtc",
    )
    add("--model", help=f"default: {DEFAULT_MODEL}")
    add("--instructions", metavar="TEXT", help="instructions for the session")


def transport_of(arguments: argparse.Namespace, environ: Mapping[str, str]) -> Literal["webrtc", "websocket"]:
    """Returns the transport that was asked for, by name or by URL."""
    if arguments.transport is not None:
        return "webrtc" if arguments.transport == "webrtc" else "websocket"
    return transport_of_url(url_of(arguments, environ))


def transport_of_url(url: str) -> Literal["webrtc", "websocket"]:
    """Returns the transport that the scheme of a URL stands for."""
    return "websocket" if url.lower().startswith(("ws:", "wss:")) else "webrtc"


def read_plan(arguments: argparse.Namespace, environ: Mapping[str, str]) -> Plan:
    """Returns the call that the flags describe; raises ``CallFailed`` if the sound cannot be read."""
    return Plan(
        url=url_of(arguments, environ),
        transport=transport_of(arguments, environ),
        model=arguments.model,
        api_key=key_of(arguments, environ),
        pcm=read_sound(arguments.sound) if arguments.sound is not None else b"",
        instructions=arguments.instructions,
    )


def read_phone_plan(arguments: argparse.Namespace, environ: Mapping[str, str]) -> PhonePlan:
    """Returns the telephone call that the flags describe; raises ``CallFailed`` if the secret or the sound is missing.

    It reads ``--as``, ``--secret``, ``--public-url``, ``--codec`` and ``--in``.
    """
    variable = SIMULATORS[arguments.carrier].variable
    dialling = Dialling(
        carrier=arguments.carrier,
        url=url_of(arguments, environ),
        secret=arguments.secret or environ.get(variable, "").partition(",")[0],
        public_url=arguments.public_url or environ.get("BRIDGE_PUBLIC_URL"),
        codec=arguments.codec,
    )
    if not dialling.secret:
        advice = f", or set {variable}" if variable else ", which is a telephone's key"
        raise CallFailed(f"A carrier's endpoint needs a secret: give --secret{advice}.")
    return PhonePlan(dialling, pcm=read_sound(arguments.sound))


def check_out(path: str | None) -> None:
    """Raises ``CallFailed`` if nothing can be written to the path, before a call is made for it."""
    if path and not Path(path).absolute().parent.is_dir():
        raise CallFailed(f"{path} cannot be written: there is no such directory.")
