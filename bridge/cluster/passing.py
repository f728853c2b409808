"""Passes a carrier's connection on to the node that has its call, until one side ends it; no wait is unlimited."""

import asyncio
from collections.abc import Callable, Sequence

from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from bridge.calls.moving import CarrierConnection, Receive
from bridge.cluster.sockets import LINK_TIMEOUT_S, closing_code
from bridge.outgoing_sockets import close_in_time, send_in_time

__all__ = ["pass_carrier_on"]

_MAX_BUFFERED_BYTES = 256 * 1024
_LOOK_S = 0.02
_SERVICE_RESTART = 1012
_NODE_GONE = "the node that has the call is gone"


async def pass_carrier_on(
    there: ClientConnection,
    messages: Sequence[str | bytes],
    receive: Receive,
    connection: CarrierConnection,
    *,
    judged_within_s: float,
    on_judged: Callable[[], object],
    timeout_s: float = LINK_TIMEOUT_S,
) -> None:
    """Passes ``messages`` on, then whatever comes from either side; owns ``there`` and closes it.

    The call's node ends within ``judged_within_s`` what does not belong to the call. So ``on_judged`` is called if the
    connection lasts longer. A side that takes nothing for ``timeout_s`` is cut off.
    """
    judging = asyncio.get_running_loop().call_later(judged_within_s, on_judged)
    try:
        async with asyncio.TaskGroup() as tasks:
            up = tasks.create_task(_up(messages, receive, there, connection, timeout_s))
            down = tasks.create_task(_down(there, connection, timeout_s))
            await asyncio.wait((up, down), return_when=asyncio.FIRST_COMPLETED)
            up.cancel()
            down.cancel()
    finally:
        judging.cancel()
        await close_in_time(there, timeout_s)


async def _up(
    messages: Sequence[str | bytes],
    receive: Receive,
    there: ClientConnection,
    connection: CarrierConnection,
    timeout_s: float,
) -> None:
    try:
        for early in messages:
            await send_in_time(there, early, timeout_s)
        while (message := await receive()) is not None:
            await send_in_time(there, message, timeout_s)
        await close_in_time(there, timeout_s)
    except ConnectionError:  # it broke, and the node that has the call must see that
        there.transport.abort()
    except (ConnectionClosed, TimeoutError):
        connection.close(*_ending(there))


async def _down(there: ClientConnection, connection: CarrierConnection, timeout_s: float) -> None:
    try:
        while True:
            connection.write_messages([await there.recv()])
            async with asyncio.timeout(timeout_s):
                while connection.buffered_bytes > _MAX_BUFFERED_BYTES:  # noqa: ASYNC110  # it has no event for that
                    await asyncio.sleep(_LOOK_S)
    except ConnectionClosed:
        connection.close(*_ending(there))
    except TimeoutError:
        connection.close(_SERVICE_RESTART, "the carrier reads nothing")


def _ending(there: ClientConnection) -> tuple[int, str]:
    """Returns the code and the reason with which the carrier's connection is closed, as the node has said them."""
    said = there.protocol.close_rcvd
    return (_SERVICE_RESTART, _NODE_GONE) if said is None else (closing_code(said.code), said.reason)
