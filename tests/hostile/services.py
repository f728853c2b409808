"""A Realtime service that says too much: it answers one call of the daemon, in the attacker's process."""

import asyncio

from websockets.asyncio.server import ServerConnection, serve

from tests.hostile.sockets import upgraded
from tests.hostile.stage import KEY, Address

__all__ = ["chatty_upstream"]

_CREATED = '{"type":"session.created","event_id":"e","session":{"type":"realtime","id":"sess_1","model":"chatty"}}'


def _frame(opcode: int, payload: bytes = b"") -> bytes:
    """One frame of a server (RFC 6455 section 5.2), of up to 64 KiB."""
    length = len(payload)
    return bytes([opcode, *([length] if length < 126 else [126, length >> 8, length & 255])]) + payload


_ITEM = b'"event_id":"e","response_id":"resp_1","item_id":"item_1","output_index":0,"content_index":0'
_FRAMES = {
    "pings": _frame(0x89),
    "fragments": _frame(0x00),
    "empty": _frame(0x81),
    "unknown": _frame(0x81, b'{"type":"x.y","event_id":"e"}'),
    "rate_limits": _frame(0x81, b'{"type":"rate_limits.updated","event_id":"e","rate_limits":[]}'),
    "deltas": _frame(0x81, b'{"type":"response.output_audio_transcript.delta",%s,"delta":"a"}' % _ITEM),
}


def chatty_upstream(address: Address, port: int, kind: str, seconds: float) -> int:
    """As many frames as the daemon takes; the bytes."""
    return asyncio.run(_chat(address, port, kind, seconds))


async def _chat(address: Address, port: int, kind: str, seconds: float) -> int:
    done: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def answer(connection: ServerConnection) -> None:
        await connection.send(_CREATED)
        if kind == "fragments":
            connection.transport.write(_frame(0x01))
        chunk = _FRAMES[kind] * max(1, 65_536 // len(_FRAMES[kind]))
        sent = 0
        until = asyncio.get_running_loop().time() + seconds
        try:
            while asyncio.get_running_loop().time() < until and not connection.transport.is_closing():
                if connection.transport.get_write_buffer_size() < len(chunk):
                    connection.transport.write(chunk)
                    sent += len(chunk)
                await asyncio.sleep(0)
        except RuntimeError:  # the daemon has had enough, and said goodbye
            pass
        connection.transport.abort()  # a goodbye would wait behind all that
        if not done.done():
            done.set_result(sent)

    async with serve(answer, "127.0.0.1", port, compression=None):
        call = await asyncio.to_thread(upgraded, address, "/v1/realtime?model=chatty", KEY)
        try:
            return await done
        finally:
            call.close()
