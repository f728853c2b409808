"""Large events over a data channel while packets are lost, both ways at once."""

import asyncio

import pytest

from bridge.webrtc.endpoint import Endpoint
from bridge.wire.message import EncodedMessage
from tests.machine import scaled
from tests.webrtc.conftest import Placing
from tests.webrtc.relay import Relay

_EVENTS = 8
_CHARS = 150_000  # some 130 packets


def _event(sender: str, number: int) -> str:
    """A text that is not the same anywhere, so that a piece in the wrong place is seen."""
    return f"{sender} {number} " + ",".join(map(str, range(number, _CHARS // 6)))[:_CHARS]


@pytest.mark.parametrize("loss", [0.01, 0.05])
async def test_large_events_both_ways_on_a_network_that_loses(
    endpoint: Endpoint, place_call: Placing, loss: float
) -> None:
    """All arrive whole and in order, nobody is taken for an attacker, and the call goes on."""
    async with Relay(endpoint.port, seed=7, loss=loss) as relay:
        caller = await place_call(endpoint, is_connected=False)
        await caller.connect(patch_answer=relay.through)
        ours = [_event("bridge", number) for number in range(_EVENTS)]
        theirs = [_event("caller", number) for number in range(_EVENTS)]
        sink = caller.owner.sinks[-1]  # where the packet that opens the channel was lost, one stood in for it before
        for mine, other in zip(ours, theirs, strict=True):
            sink.send_message(EncodedMessage(mine.encode()))
            caller.channel.send(other)
        await caller.owner.until(lambda: len(caller.owner.texts) >= _EVENTS or caller.owner.ended)
        async with asyncio.timeout(scaled(20)):
            while len(caller.heard) < _EVENTS:
                await caller.hear()
        assert caller.owner.texts == theirs
        assert caller.heard == ours
        assert relay.lost > 10
        assert caller.faults.keys() <= {"sctp_no_room"}
        assert caller.owner.ended is None
