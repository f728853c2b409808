"""A service that the bridge calls over WebRTC: its offer, the peer with its data channel, and how that ends."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

from bridge.context import CallContext
from bridge.errors import BadOffer, BridgeError, PeerError, UpstreamError
from bridge.media.contracts import LegOwner
from bridge.names import until_answered
from bridge.outgoing import HTTPError, new_client, refusal
from bridge.webrtc.dial import dial
from bridge.webrtc.ice_full import IceServers
from bridge.webrtc.peer import Peer
from bridge.webrtc.runner import PeerRunner

__all__ = ["ServicePeer", "post_offer"]


class ServicePeer:
    """The bridge's peer at a service, for one line.

    The line is the ``LegOwner`` of the peer, and tells this of the data channel and of the end.
    """

    def __init__(self, *, runner: PeerRunner, ice_servers: IceServers, timeout_s: float, context: CallContext) -> None:
        self._runner = runner
        self._ice_servers = ice_servers
        self._timeout_s = timeout_s
        self._context = context
        self._stack = AsyncExitStack()
        self._ended: asyncio.Future[UpstreamError | None] = asyncio.get_running_loop().create_future()
        self._is_open = asyncio.Event()

    async def open(
        self,
        owner: LegOwner,
        post: Callable[[str], Awaitable[bytes]],
        *,
        queue_limit_s: int,
        on_peer: Callable[[Peer], None],
        may_try_again: bool = True,
    ) -> None:
        """Offers by ``post``, connects and opens the data channel; raises ``UpstreamError``.

        ``on_peer`` gets the peer before anything comes over its channel. Without ``may_try_again`` a peer that does not
        connect in time is no reason to offer once more.
        """
        try:
            async with asyncio.timeout(self._timeout_s):
                for server in filter(None, (self._ice_servers.stun, self._ice_servers.turn)):
                    await until_answered(*server, self._timeout_s)
                peer = dial(
                    self._runner,
                    owner,
                    post,
                    queue_limit_s=queue_limit_s,
                    is_microphone=True,
                    ice_servers=self._ice_servers,
                    context=self._context,
                )
                on_peer(await self._stack.enter_async_context(peer))
                await self._is_open.wait()
        except TimeoutError:
            message = f"The upstream's peer did not connect within {self._timeout_s:g} s."
            raise UpstreamError(message, code="upstream_timeout", is_transient=may_try_again) from None
        except (BadOffer, PeerError) as error:
            raise UpstreamError(f"The upstream's answer cannot be used: {error.message}", is_transient=False) from error
        if self._ended.done():
            raise self._ended.result() or UpstreamError(
                "The upstream's peer disconnected at once.", code="upstream_lost"
            )

    def channel_opened(self) -> None:
        """Notes that the data channel is open."""
        self._is_open.set()

    def closed(self, error: BridgeError | None) -> None:
        """Notes that the peer is gone: the service hung up, or it was lost by ``error``."""
        self.fail(None if error is None else UpstreamError(error.message, code="upstream_lost"))

    def fail(self, error: UpstreamError | None) -> None:
        """Ends the line by ``error``; only the first end counts."""
        if not self._ended.done():
            self._ended.set_result(error)
        self._is_open.set()

    @property
    def has_ended(self) -> bool:
        """Whether the peer is gone."""
        return self._ended.done()

    @property
    def ending(self) -> UpstreamError | None:
        """Why it has ended; None if the service hung up in good order."""
        return self._ended.result()

    async def wait_ended(self, timeout_s: float | None) -> None:
        """Waits for the end, for ``timeout_s`` at most. With None, the peer's own timeouts bring the end."""
        await asyncio.wait((self._ended,), timeout=timeout_s)

    async def aclose(self) -> None:
        """Hangs up; may be called twice."""
        await self._stack.aclose()


async def post_offer(
    address: str,
    *,
    headers: dict[str, str],
    timeout_s: float,
    max_answer_bytes: int,
    may_try_again: bool = True,
    **request: Any,
) -> bytes:
    """Posts an offer and returns the answer; raises ``UpstreamError``.

    ``request`` is the body, as the HTTP client takes it. Without ``may_try_again`` a connection that breaks is no
    reason to post once more; what the service itself refuses is judged by its status.
    """
    try:
        async with (
            new_client(timeout_s) as http,
            http.stream("POST", address, headers=headers, **request) as response,
        ):
            answer = b""
            async for chunk in response.aiter_bytes():
                answer += chunk
                if len(answer) > max_answer_bytes:
                    raise UpstreamError("The upstream's answer is too long.", is_transient=False)
    except HTTPError as error:
        reason = str(error) or type(error).__name__
        message = f"The upstream cannot be reached: {reason}"
        raise UpstreamError(message, code="upstream_lost", is_transient=may_try_again) from error
    if response.status_code not in (200, 201):
        raise refusal(response.status_code, answer, response.headers.get("Retry-After"))
    return answer
