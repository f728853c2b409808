"""Requests to the API of Azure Communication Services, signed with a resource's access key."""

import base64
import hmac
from collections.abc import Callable
from datetime import UTC, datetime
from hashlib import sha256
from uuid import uuid4

from bridge.outgoing import Request

__all__ = ["signed_by"]


def signed_by(key: bytes) -> Callable[[Request], Request]:
    """Makes what signs requests: HMAC-SHA256 of method, path, date, host and the body's hash.

    Each request has an id of its own, by which Azure knows a request that is sent again.
    """

    def sign(request: Request) -> Request:
        date = f"{datetime.now(UTC):%a, %d %b %Y %H:%M:%S} GMT"
        path, host = request.url.raw_path.decode(), request.url.netloc.decode()
        content = base64.b64encode(sha256(request.content).digest()).decode()
        text = f"{request.method}\n{path}\n{date};{host};{content}"
        signature = base64.b64encode(hmac.digest(key, text.encode(), "sha256")).decode()
        request.headers |= {
            "Repeatability-Request-ID": str(uuid4()),
            "Repeatability-First-Sent": date,
            "x-ms-date": date,
            "x-ms-content-sha256": content,
            "Authorization": f"HMAC-SHA256 SignedHeaders=x-ms-date;host;x-ms-content-sha256&Signature={signature}",
        }
        return request

    return sign
