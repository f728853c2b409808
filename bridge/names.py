"""Looks up names of other machines in threads of their own, so that a silent name server delays nobody else.

The event loop looks names up in a few threads. Names that no server answers for would fill them, and then nobody could
be dialled any more, known or not.
"""

import asyncio
import contextlib
import socket
from ipaddress import ip_address
from threading import Thread
from typing import Any

__all__ = ["addresses_of", "until_answered"]

_Place = tuple[asyncio.AbstractEventLoop, str, int]
_looking: "dict[_Place, asyncio.Future[list[Any]]]" = {}
"""The look-ups under way, one for each name. All names come from the settings, so there are few."""


async def addresses_of(host: str, port: int) -> list[str]:
    """Returns the addresses of a name, best first, without zones; raises ``OSError``. The caller sets the deadline."""
    return [str(each[4][0]).partition("%")[0] for each in await asyncio.shield(_look_up(host, port))]


async def until_answered(host: str, port: int, timeout_s: float) -> None:
    """Returns as soon as a name server has answered for this name, good or bad; raises ``TimeoutError``.

    It is to be called before a library looks the name up again by the event loop. An address needs no answer.
    """
    with contextlib.suppress(ValueError):
        ip_address(host.strip("[]"))
        return
    done, _ = await asyncio.wait([_look_up(host, port)], timeout=timeout_s)
    if not done:
        raise TimeoutError(f"no name server answered for {host} within {timeout_s:g} s")


def _look_up(host: str, port: int) -> "asyncio.Future[list[Any]]":
    loop = asyncio.get_running_loop()
    place = loop, host, port
    looking = _looking.get(place)
    if looking is None:
        looking = _looking[place] = loop.create_future()
        looking.add_done_callback(lambda done: done.cancelled() or done.exception())  # in case nobody waits any more
        try:
            Thread(target=_ask, args=(place, looking), daemon=True, name=f"look-up {host}"[:15]).start()
        except RuntimeError as error:  # no thread can be started now
            del _looking[place]
            looking.set_exception(OSError(str(error)))
    return looking


def _ask(place: _Place, looking: "asyncio.Future[list[Any]]") -> None:
    loop, host, port = place
    found: list[Any] = []
    failure: OSError | None = None
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        failure = error if isinstance(error, OSError) else OSError(f"{host} is not a valid name")

    def settle() -> None:
        del _looking[place]
        if failure is not None:
            looking.set_exception(failure)
        else:
            looking.set_result(found)

    with contextlib.suppress(RuntimeError):  # in case the loop has ended meanwhile
        loop.call_soon_threadsafe(settle)
