"""The same attacks over TLS and over IPv6, and what only TLS makes possible."""

from pathlib import Path

import pytest

from tests.certificate import write_certificate
from tests.hostile.sockets import flood, handshakes, hold
from tests.hostile.stage import KEY, Target, attacked
from tests.hostile.strangers import endless_head, forms

pytestmark = [pytest.mark.alone, pytest.mark.slow, pytest.mark.timeout(90)]

_OWN = "/v1/realtime?model=any"
_ATTACK_S = 4.0
_DEADLINE_S = 14.0


@pytest.fixture(scope="module", params=["tls", "ipv6"])
def flags(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    """Of ``bridge serve``."""
    usual = ("--api-key", KEY, "--drain-s", "0")
    if request.param == "ipv6":
        return (*usual, "--host", "::1")
    certificate, key = write_certificate(Path(tmp_path_factory.mktemp("certificate")))
    return (*usual, "--tls-cert", str(certificate), "--tls-key", str(key))


@pytest.mark.parametrize("kind", ["fragments", "pings", "bad_events"])
async def test_flood_of_small_frames(target: Target, kind: str) -> None:
    """Twenty sockets wait for their turns; nobody else does."""
    outcome = await attacked(target, flood, _OWN, KEY, kind, 20, 50, _ATTACK_S, True)
    assert outcome.answer > 0
    outcome.require_harmless()


async def test_head_without_end(target: Target) -> None:
    """It is refused after 64 KiB at the latest, and kept nowhere."""
    outcome = await attacked(target, endless_head, "header", 64, 4)
    outcome.require_harmless()
    assert {status for status, _ in outcome.answer} <= {431, 0}


async def test_form_that_takes_long(target: Target) -> None:
    """Its length bounds the time in which it is read."""
    outcome = await attacked(target, forms, KEY, "nearly", 20)
    outcome.require_harmless()
    assert outcome.answer == {"400": 20}


async def test_connections_that_never_go(target: Target) -> None:
    """They are closed, also those that never come to an end with the handshake of TLS."""
    kinds = ["half_head", "half_second", "refused_body", "nothing", "no_hello", "half_hello"]
    outcome = await attacked(target, hold, kinds, 10, _DEADLINE_S, "")
    outcome.require_harmless()
    assert outcome.answer == []


async def test_too_many_connections_that_say_nothing(target: Target) -> None:
    """Of one address only so many are kept, whether they speak TLS or not."""
    outcome = await attacked(target, hold, ["no_hello"], 400, 3.0, "")
    outcome.require_harmless()
    assert len(outcome.answer) <= 256


async def test_handshakes_without_end(target: Target) -> None:
    """Whoever connects again and again takes turns with everybody else."""
    outcome = await attacked(target, handshakes, 1000)
    outcome.require_harmless()
    assert outcome.answer > 0
