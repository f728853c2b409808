"""Upstreams and agents that say too much: others' calls have other upstreams."""

import socket
from pathlib import Path

import pytest

from tests.hostile.services import chatty_upstream
from tests.hostile.sockets import flood
from tests.hostile.stage import KEY, Target, attacked

pytestmark = [pytest.mark.alone, pytest.mark.slow, pytest.mark.timeout(90)]

_ATTACK_S = 4.0
_AGENT = "/v1/realtime?role=agent"


@pytest.fixture(scope="module")
def upstream_port() -> int:
    """A port that is free now."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@pytest.fixture(scope="module")
def flags(upstream_port: int, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    """A daemon whose calls to the model ``chatty`` go to the attacker."""
    path: Path = tmp_path_factory.mktemp("config") / "bridge.toml"
    url = f"ws://127.0.0.1:{upstream_port}/v1/realtime"
    path.write_text(f'[upstreams.chatty]\nurl = "{url}"\nmodels = ["chatty"]\n')
    return "--config", str(path), "--api-key", KEY, "--drain-s", "0"


@pytest.mark.parametrize("kind", ["pings", "fragments", "empty", "unknown", "rate_limits", "deltas"])
async def test_upstream_that_says_too_much(target: Target, upstream_port: int, kind: str) -> None:
    """It waits for its turn, or is cut; calls that others answer go on."""
    outcome = await attacked(target, chatty_upstream, upstream_port, kind, _ATTACK_S)
    outcome.require_harmless()
    assert outcome.answer > 0


@pytest.mark.parametrize("kind", ["bad_events", "fragments", "pings"])
async def test_agents_that_say_too_much(target: Target, kind: str) -> None:
    """Twenty of them have one turn together, like any clients."""
    outcome = await attacked(target, flood, _AGENT, KEY, kind, 20, 100, _ATTACK_S, True)
    outcome.require_harmless()
