"""Attacks by plain TCP, bounded in count and time: each function is run by an attacker's process.

A function takes the daemon's address and returns what it saw, as JSON.
"""

import socket
import time
from collections import Counter
from collections.abc import Iterable

from tests.hostile.stage import Address

__all__ = ["audiosocket_flood", "audiosocket_hold", "endless_head", "forms", "garbage_requests"]

_TIMEOUT_S = 10.0


def _push(connection: socket.socket, pieces: Iterable[bytes]) -> int:
    """Sends until all is sent or nobody takes any more; the bytes that were taken."""
    taken = 0
    try:
        for piece in pieces:
            connection.sendall(piece)
            taken += len(piece)
    except OSError:
        pass
    return taken


def _status(connection: socket.socket) -> int:
    """Of the HTTP answer; 0 where the connection ended without one."""
    try:
        answer = connection.recv(65_536)
    except OSError:
        return 0
    return int(answer.split(b" ", 2)[1]) if answer.startswith(b"HTTP/1.1 ") else 0


def endless_head(address: Address, kind: str, megabytes: int, connections: int) -> list[tuple[int, int]]:
    """A request line or headers without end; the status and the bytes that were taken, of each connection."""
    start, piece = {
        "url": (b"GET /", b"a" * 65_536),
        "header": (b"GET /healthz HTTP/1.1\r\nX: ", b"a" * 65_536),
        "headers": (b"GET /healthz HTTP/1.1\r\n", b"a: b\r\n" * 10_000),
        "upgrade": (
            b"GET /v1/realtime HTTP/1.1\r\nUpgrade: websocket\r\nConnection: upgrade\r\n",
            b"a: b\r\n" * 10_000,
        ),
    }[kind]
    seen = []
    for _ in range(connections):
        with address.connect() as connection:
            taken = _push(connection, [start, *[piece] * (megabytes * 2**20 // len(piece))])
            seen.append((_status(connection), taken))
            time.sleep(0)
    return seen


def garbage_requests(address: Address, count: int) -> dict[str, int]:
    """Requests that are none, a connection for each; how often each status came."""
    seen: Counter[str] = Counter()
    for _ in range(count):
        with address.connect() as connection:
            _push(connection, [b"\x00garbage of some length that is no request\r\n\r\n"])
            seen[str(_status(connection))] += 1
    return seen


def forms(address: Address, key: str, kind: str, count: int) -> dict[str, int]:
    """Forms that take long to read; how often each status came."""
    content_type, body = _FORMS[kind]
    seen: Counter[str] = Counter()
    for _ in range(count):
        head = (
            f"POST /v1/realtime/calls HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\n"
            f"Content-Type: {content_type}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        )
        with address.connect() as connection:
            _push(connection, [head.encode("latin-1"), body])
            seen[str(_status(connection))] += 1
    return seen


_FORM = "multipart/form-data; boundary=b"
_SDP_PART = b'--b\r\nContent-Disposition: form-data; name="sdp"\r\n'
_FORMS = {
    "content_type": (_FORM + "; x" * 20_000, b""),
    "encoded_words": (_FORM, _SDP_PART + b"X: " + b"=?utf-8?q?a?= " * 20_000 + b"\r\n\r\n\r\n--b--\r\n"),
    "parameters": (
        _FORM,
        b"--b\r\nContent-Disposition: form-data"
        + b"".join(b"; name*%d*=a" % n for n in range(20_000))
        + b"\r\n\r\n\r\n--b--\r\n",
    ),
    "comments": (_FORM, _SDP_PART + b"Content-Type: " + b"(" * 200_000 + b"\r\n\r\n\r\n--b--\r\n"),
    "parts": (_FORM, _SDP_PART + b"\r\n\r\n" + b"--b\r\n\r\n\r\n" * 30_000 + b"--b--\r\n"),
    "nested": (
        _FORM,
        b"".join(b"--b\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n" for _ in range(5_000)),
    ),
    "nearly": (_FORM, _SDP_PART + b"\r\n" + b"\r\n--\r\r\n--\n" * 30_000 + b"\r\n--b--\r\n"),
}


def audiosocket_flood(address: Address, seconds: float, connections: int) -> int:
    """Frames without a call and without sound, as many as are taken; the bytes."""
    open_ones = [socket.create_connection(("127.0.0.1", address.audiosocket_port), timeout=_TIMEOUT_S)]
    open_ones += [socket.create_connection(("127.0.0.1", address.audiosocket_port)) for _ in range(connections - 1)]
    chunk = bytes([0x10, 0, 0]) * 20_000
    until = time.monotonic() + seconds
    taken = 0
    for connection in open_ones:
        connection.setblocking(False)
    while time.monotonic() < until:
        for connection in open_ones:
            try:
                taken += connection.send(chunk)
            except OSError:  # full, or closed
                time.sleep(0.001)
    for connection in open_ones:
        connection.close()
    return taken


def audiosocket_hold(address: Address, count: int, seconds: float) -> int:
    """Connections that bring no call; how many are still open after a while."""
    open_ones = []
    for _ in range(count):
        connection = socket.create_connection(("127.0.0.1", address.audiosocket_port), timeout=_TIMEOUT_S)
        connection.setblocking(False)
        open_ones.append(connection)
    until = time.monotonic() + seconds
    while open_ones and time.monotonic() < until:
        time.sleep(0.2)
        open_ones = [connection for connection in open_ones if _is_open(connection)]
    for connection in open_ones:
        connection.close()
    return len(open_ones)


def _is_open(connection: socket.socket) -> bool:
    try:
        while connection.recv(65_536):
            pass
    except BlockingIOError:
        return True
    except OSError:
        pass
    return False
