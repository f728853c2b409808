"""The attacks that were worst, beside a call over WebRTC."""

from typing import Any

import pytest

from tests.hostile.channels import channel_flood
from tests.hostile.clients import costly_messages
from tests.hostile.sockets import flood, hold, pipelined
from tests.hostile.stage import KEY, Target, attacked
from tests.hostile.strangers import endless_head, forms

pytestmark = [pytest.mark.alone, pytest.mark.slow, pytest.mark.timeout(90)]

_OWN = "/v1/realtime?model=any"
_ATTACK_S = 4.0


@pytest.mark.parametrize(
    ("attack", "arguments"),
    [
        (flood, (_OWN, KEY, "fragments", 1, 10, _ATTACK_S, True)),
        (flood, (_OWN, KEY, "bad_events", 20, 200, _ATTACK_S, True)),
        (flood, (_OWN, KEY, "appends", 20, 200, _ATTACK_S, True)),
        (pipelined, (20, _ATTACK_S)),
        (costly_messages, ("many_tools", 20, "ga")),
        (costly_messages, ("keys", 20, "ga")),
        (forms, (KEY, "nearly", 20)),
        (endless_head, ("headers", 64, 4)),
        (hold, (["half_head"], 400, 3.0, "")),
        (channel_flood, ("tools", 20)),
    ],
    ids=[
        *("fragments", "bad-events", "appends", "pipelined", "many-tools", "keys", "form", "headers", "held"),
        "channel",
    ],
)
async def test_a_call_over_webrtc_goes_on(target: Target, attack: Any, arguments: tuple[Any, ...]) -> None:
    """Its packets reach the listener as they do without the attack."""
    outcome = await attacked(target, attack, *arguments, transport="webrtc")
    outcome.require_harmless()
