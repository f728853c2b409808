"""Reads the figures of calls that another process has written. The figures of a leg tell of which kind it is."""

from typing import Any

import msgspec

from bridge.wire.stats import BearerStats, CallStats, CarrierLegStats, LegStats, PeerStats, Transport

__all__ = ["call_of", "read_call", "read_calls"]


def read_call(text: bytes | msgspec.Raw) -> CallStats:
    """Reads a call as ``GET /v1/calls/ID`` has it; raises ``msgspec.ValidationError`` or ``DecodeError``."""
    return call_of(msgspec.json.decode(text))


def read_calls(text: bytes) -> list[CallStats]:
    """Reads calls as ``GET /v1/calls`` has them; raises as ``read_call`` does."""
    return [call_of(body) for body in msgspec.json.decode(text)["data"]]


def call_of(body: dict[str, Any]) -> CallStats:
    """Returns the call whose decoded JSON is ``body``; raises ``msgspec.ValidationError``."""
    legs = body.pop("legs", ())
    peer = body.pop("peer", None)
    return msgspec.structs.replace(
        msgspec.convert({**body, "legs": [], "peer": None}, CallStats),
        legs=[BearerStats(Transport(leg["kind"]), leg["input"], leg["output"], _leg(leg["quality"])) for leg in legs],
        peer=_leg(peer),
    )


def _leg(body: dict[str, Any] | None) -> LegStats | None:
    if body is None:
        return None
    kind = PeerStats if "jitter_ms" in body else CarrierLegStats if "messages" in body else LegStats
    return msgspec.convert(body, kind)
