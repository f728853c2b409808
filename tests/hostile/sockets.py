"""Attacks by WebSockets that are written by hand, bounded in count and time; see ``tests.hostile.strangers``."""

import select
import socket
import time

from tests.hostile.attacker import under_way
from tests.hostile.stage import KEY, WAITS, Address

__all__ = ["flood", "handshakes", "hold", "huge_first_messages", "pipelined"]

_UNDER_WAY_BYTES = 2**20
_MASK = bytes(4)  # masked by zeros, the payload stays as it is
_TEXT, _CONTINUATION, _PING, _PONG = 0x1, 0x0, 0x9, 0xA
_FIN = 0x80
_OWN = "/v1/realtime?model=any"


def frame(opcode: int, payload: bytes = b"", *, fin: bool = True) -> bytes:
    """One frame of a client (RFC 6455 section 5.2)."""
    length = len(payload)
    if length < 126:
        head = bytes([length | 0x80])
    elif length < 65_536:
        head = bytes([126 | 0x80]) + length.to_bytes(2, "big")
    else:
        head = bytes([127 | 0x80]) + length.to_bytes(8, "big")
    return bytes([opcode | (_FIN if fin else 0)]) + head + _MASK + payload


def upgraded(address: Address, path: str, key: str | None) -> socket.socket:
    """A WebSocket that the daemon has accepted."""
    connection = address.connect()
    shown = f"Authorization: Bearer {key}\r\n" if key else ""
    connection.sendall(
        f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{shown}\r\n".encode()
    )
    answer = b""
    while b"\r\n\r\n" not in answer:
        piece = connection.recv(65_536)
        assert piece, answer
        answer += piece
    assert answer.startswith(b"HTTP/1.1 101"), answer
    return connection


_FLOODS = {
    "fragments": (frame(_TEXT, fin=False), frame(_CONTINUATION, fin=False)),
    "empty": (b"", frame(_TEXT)),
    "pings": (b"", frame(_PING)),
    "pongs": (b"", frame(_PONG)),
    "bad_events": (b"", frame(_TEXT, b'{"type":"x"}')),
    "appends": (b"", frame(_TEXT, b'{"type":"input_audio_buffer.append","audio":"' + b"AAAA" * 8000 + b'"}')),
}


def flood(
    address: Address, path: str, key: str | None, kind: str, sockets: int, megabytes: int, seconds: float, reads: bool
) -> int:
    """As many frames as are taken, over some sockets; with ``reads`` their answers are read. The bytes taken."""
    first, again = _FLOODS[kind]
    chunk = again * max(1, 65_536 // len(again))
    connections = [upgraded(address, path, key) for _ in range(sockets)]
    unsent = {}
    for connection in connections:
        connection.sendall(first)
        connection.setblocking(False)
        unsent[connection] = b""
    taken = 0
    until = time.monotonic() + seconds
    is_under_way = False
    while unsent and taken < megabytes * 2**20 and time.monotonic() < until:
        readable, writable, _ = select.select(list(unsent) if reads else [], list(unsent), [], 0.1)
        for connection in readable:
            try:
                if not connection.recv(2**20):
                    unsent.pop(connection)
            except WAITS:
                pass
            except OSError:
                unsent.pop(connection, None)
        for connection in writable:
            if connection not in unsent:
                continue
            try:
                data = unsent[connection] or chunk
                count = connection.send(data)
                unsent[connection] = data[count:]
                taken += count
                if not is_under_way and taken >= _UNDER_WAY_BYTES:
                    is_under_way = True
                    under_way()
            except WAITS:
                pass
            except OSError:
                unsent.pop(connection)
    for connection in connections:
        connection.close()
    return taken


def handshakes(address: Address, count: int) -> int:
    """Connections that shake hands over TLS, and close; how many did."""
    done = 0
    for _ in range(count):
        try:
            address.connect().close()
        except OSError:
            continue
        done += 1
    return done


def huge_first_messages(address: Address, path: str, sockets: int, megabytes: int) -> int:
    """One message each, as far as it is taken, and none of them ends; the bytes taken in all."""
    head = bytes([_TEXT | _FIN, 127 | 0x80]) + (megabytes * 2**20).to_bytes(8, "big") + _MASK
    taken = 0
    connections = [upgraded(address, path, None) for _ in range(sockets)]
    for connection in connections:
        connection.settimeout(0.5)
        try:
            connection.sendall(head)
            for _ in range(megabytes * 16 - 1):
                taken += connection.send(b"a" * 65_536)
        except OSError:
            pass
    time.sleep(0.5)
    for connection in connections:
        connection.close()
    return taken


def pipelined(address: Address, sockets: int, seconds: float) -> int:
    """Requests that are sent ahead without end; the bytes of the answers."""
    chunk = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n" * 1500
    connections = [address.connect() for _ in range(sockets)]
    for connection in connections:
        connection.setblocking(False)
    came = 0
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        readable, writable, _ = select.select(connections, connections, [], 0.1)
        for connection in readable:
            came += len(connection.recv(2**20))
        for connection in writable:
            try:
                connection.send(chunk)
            except WAITS:
                pass
    for connection in connections:
        connection.close()
    return came


_HEAD = "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
_HELD = {
    "long_upgrade": _HEAD.format(path=_OWN).encode() + b"X: " + b"a" * 9000 + b"\r\n\r\n",
    "no_upgrade": _HEAD.format(path=_OWN).encode() + b"\r\n",
    "half_head": b"GET /healthz HTTP/1.1\r\nHost: loc",
    "half_second": b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\nGET /healthz HTTP/1.1\r\nHost: loc",
    "refused_body": b"POST /v1/realtime/calls HTTP/1.1\r\nHost: localhost\r\nContent-Length: 900000\r\n\r\nv=0",
    "admitted_body": f"POST /v1/realtime/calls HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {KEY}\r\n"
    "Content-Type: application/sdp\r\nContent-Length: 9000\r\n\r\nv=0".encode(),
    "nothing": b"",
    "no_hello": b"",
    "half_hello": bytes.fromhex("160301020001000001fc0303"),  # of a TLS handshake (RFC 8446 section 4.1.2)
    "line_ends": b"\r\n",
}


def hold(address: Address, kinds: list[str], count: int, seconds: float, trickle: str) -> list[str]:
    """Connections that say something and then next to nothing, ``count`` of each kind; what is open in the end."""
    connections: list[tuple[str, socket.socket]] = []
    for kind in kinds * count:
        connection = address.connect(is_plain=kind.endswith("_hello"))
        connection.sendall(_HELD[kind])
        connection.setblocking(False)
        connections.append((kind, connection))
    under_way()
    until = time.monotonic() + seconds
    while connections and time.monotonic() < until:
        time.sleep(0.2)
        connections = [(kind, connection) for kind, connection in connections if _is_open(kind, connection, trickle)]
    for _, connection in connections:
        connection.close()
    return sorted(kind for kind, _ in connections)


def _is_open(kind: str, connection: socket.socket, trickle: str) -> bool:
    try:
        if trickle:
            connection.send(b"\r\n" if kind == "line_ends" else trickle.encode())
        while connection.recv(65_536):
            pass
    except WAITS:
        return True
    except OSError:
        pass
    return False
