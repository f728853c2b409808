"""Benchmarks of two servers at once, over a bad network, and as telephone carriers."""

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from bridge.client import Plan
from bridge.client.bench import Bench, BenchRecord, Load, Network, Turn, run_side_by_side
from bridge.client.bench.compare import Ratio, ratios
from bridge.client.bench.lag import Lag
from bridge.client.bench.network import BadNetwork
from bridge.client.bench.page import as_page
from bridge.client.bench.report import report
from bridge.client.carriers.dialling import Dialling
from bridge.client.change_signal import ChangeSignal
from bridge.client.phone_call import PhonePlan
from bridge.client.sound import PHRASE, read_sound
from bridge.daemon import Daemon
from bridge.webrtc.ice_full import IceFull
from tests.machine import scaled
from tests.processes import ran
from tests.settings import config_for_tests

pytestmark = pytest.mark.slow

_MS = 48  # bytes of PCM16 at 24 kHz
_PUBLIC = "https://bridge.example"
_RTP, _DTLS = bytes([0x80, 111]) + bytes(10), bytes([22]) + bytes(20)


@pytest.fixture(scope="session")
def hello() -> bytes:
    """The first word of the phrase."""
    return read_sound(PHRASE)[: 600 * _MS]


# The bad network


async def _passed(network: Network, number: int, monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """What of 500 packets of sound and one of DTLS gets through, in the order in which it does."""
    out: list[bytes] = []
    monkeypatch.setattr(IceFull, "send_datagram", lambda self, datagram: out.append(datagram))
    changes = ChangeSignal()
    agent = BadNetwork(network, number)
    for place in range(500):
        agent.send_datagram(_RTP + place.to_bytes(2, "big"))
    agent.send_datagram(_DTLS)
    expected = 501 - agent.lost
    async with asyncio.timeout(scaled(5)):
        await changes.until(lambda: len(out) == expected)
    await agent.aclose()
    return out


async def test_the_same_seed_loses_the_same_packets(monkeypatch: pytest.MonkeyPatch) -> None:
    """About as many as were asked for; another call and another seed lose others. Handshakes all arrive."""
    network = Network(loss_percent=20, seed=7)
    first, again = await _passed(network, 0, monkeypatch), await _passed(network, 0, monkeypatch)
    assert first == again
    assert 360 < len(first) < 440
    assert first[-1] == _DTLS
    assert await _passed(network, 1, monkeypatch) != first
    assert await _passed(Network(loss_percent=20, seed=8), 0, monkeypatch) != first


async def test_jitter_delays_and_reorders(monkeypatch: pytest.MonkeyPatch) -> None:
    """All packets arrive, none of them twice, and some behind later ones."""
    out = await _passed(Network(jitter_ms=30), 0, monkeypatch)
    assert out[0] == _DTLS  # it is not delayed
    assert sorted(out[1:]) == [_RTP + place.to_bytes(2, "big") for place in range(500)]
    assert out[1:] != sorted(out[1:])


async def test_calls_over_a_bad_network_are_measured(hello: bytes) -> None:
    """The bridge hears through 10 % loss, and says how many packets of the callers were missing."""
    async with Daemon(config_for_tests()) as daemon:
        network = Network(loss_percent=10, jitter_ms=20, seed=3)
        bench = Bench(Plan(daemon.url, pcm=hello), Load(calls=2, turns=2, ramp_per_s=50), network=network)
        await bench.run()
    told = bench.report()
    assert (told.result, told.came_through, told.answered) == ("came_through", 2, 4)


# Two servers


def _measured(*first_sound_ms: float) -> Any:
    turns = [Turn(first_sound_ms=ms, is_answered=True, answer_s=1.0) for ms in first_sound_ms]
    return report([BenchRecord(0, result="came_through", connect_ms=0.0, turns=turns)], Lag())


def test_ratios_are_of_what_both_have() -> None:
    """2 is twice as long; nothing is divided by zero, and what one server lacks is left out."""
    assert ratios(_measured(100.0), _measured(250.0)) == [
        Ratio("connect", None, None, None),
        Ratio("end of speech → first sound", 2.5, 2.5, 2.5),
        Ratio("gaps in an answer", None, None, None),
    ]


def test_the_page_shows_both_and_escapes_what_servers_say() -> None:
    """Both servers' names, the ratios and a drawing; nothing of it is markup of a server."""
    one, two = _measured(100.0, 120.0), _measured(200.0)
    runs = [("http://a/<b>", one, [BenchRecord(0, turns=[Turn(first_sound_ms=100.0)])]), ("http://c", two, [])]
    page = as_page("2 calls to <x>", runs, ratios(one, two))
    assert "<b>" not in page.split("<p>")[1]
    assert "http://a/&lt;b&gt;" in page
    assert "<polyline" in page
    assert "second / first" in page


async def test_two_servers_are_measured_at_the_same_time(hello: bytes) -> None:
    """Calls begin in turn, and both have all of their figures."""
    async with Daemon(config_for_tests()) as one, Daemon(config_for_tests()) as two:
        load = Load(calls=2, turns=1, ramp_per_s=50)
        benches = [Bench(Plan(daemon.url, transport="websocket", pcm=hello), load) for daemon in (one, two)]
        await run_side_by_side(*benches)
    spans = []
    for bench in benches:
        assert bench.report().came_through == 2
        spans.append([turn.spoken_at_s or 0.0 for record in bench.records for turn in record.turns])
    assert min(spans[1]) < max(spans[0]) + hello_s(hello)  # the second did not wait for the first to end


def hello_s(pcm: bytes) -> float:
    """How long the sound is, in seconds."""
    return len(pcm) / _MS / 1000


# Carriers


@pytest.mark.parametrize("carrier", ["twilio", "asterisk"])
async def test_carriers_are_measured(hello: bytes, carrier: str) -> None:
    """Every turn is heard and timed, and the call is hung up."""
    known: dict[str, dict[str, Any]] = {
        "twilio": {"twilio_auth_token": ("secret",), "public_url": _PUBLIC},
        "asterisk": {"asterisk_secret": ("secret",)},
    }
    settings = known[carrier]
    async with Daemon(config_for_tests(**settings)) as daemon:
        dialling = Dialling(carrier=carrier, url=daemon.url, secret="secret", public_url=_PUBLIC)
        plan = PhonePlan(dialling, pcm=hello)
        bench = Bench(plan, Load(calls=2, turns=2, ramp_per_s=50))
        await bench.run()
        assert daemon.registry.sessions == []
    told = bench.report()
    assert (told.result, told.came_through, told.answered, told.turns) == ("came_through", 2, 4, 4)
    for record in bench.records:
        assert (record.connect_ms or 0) > 0
        for turn in record.turns:
            assert turn.is_early or (turn.first_sound_ms or 0) > 0
            assert turn.answer_s > 0.3


async def test_a_carrier_that_is_refused_fails_its_call(hello: bytes) -> None:
    """A wrong secret is no exception."""
    async with Daemon(config_for_tests(asterisk_secret=("secret",))) as daemon:
        plan = PhonePlan(Dialling(carrier="asterisk", url=daemon.url, secret="wrong"), pcm=hello)
        bench = Bench(plan, Load(calls=1, turns=1))
        await bench.run()
    told = bench.report()
    assert (told.result, told.failed, told.turns) == ("failed", 1, 0)
    assert "wrong" not in repr(told)


# The command


async def test_the_command_compares(tmp_path: Path) -> None:
    """Two tables, the ratios, a page and JSON that has both; the first one's key stays with the first one."""
    page, figures = tmp_path / "page.html", tmp_path / "figures.json"
    async with Daemon(config_for_tests(api_key=("sk-one",))) as one, Daemon(config_for_tests()) as two:
        words = ("--calls", "1", "--turns", "1", "--transport", "websocket", "--api-key", "sk-one")
        files = ("--html", str(page), "--json", str(figures))
        code, out, errors = await ran(
            sys.executable, "-m", "bridge", "bench", one.url, "--compare", two.url, *words, *files
        )
    assert (code, errors) == (0, "")
    assert "first: " in out
    assert "second / first" in out
    assert "end of speech → first sound" in page.read_text()
    saved = json.loads(figures.read_text())
    assert [server["report"]["result"] for server in saved["servers"]] == ["came_through", "came_through"]
    assert saved["ratios"]
    assert "sk-one" not in page.read_text() + figures.read_text()


async def test_each_server_has_the_transport_of_its_url() -> None:
    """If no transport is given, a second server is called as its own URL says; there is no table without figures."""
    urls = ("http://127.0.0.1:9", "--compare", "ws://127.0.0.1:9")
    code, out, _ = await ran(sys.executable, "-m", "bridge", "bench", *urls, "--calls", "1", "--turns", "1")
    assert code == 1
    assert "first: http://127.0.0.1:9/v1/realtime/calls" in out
    assert "second: ws://127.0.0.1:9/v1/realtime" in out
    assert "second / first" not in out


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("--as", "twilio", "--compare", "http://127.0.0.1:9"), "cannot be combined"),
        (("--transport", "websocket", "--loss", "5"), "they need --transport webrtc"),
        (("--loss", "100"), "no percentage"),
        (("--jitter", "-1"), "no number from 0"),
        (("--compare", "http://127.0.0.1:9", "--png", "a.png"), "use --html FILE to show both"),
    ],
)
async def test_flags_that_do_not_fit(words: tuple[str, ...], complaint: str) -> None:
    """Exit code 2, and what would fit."""
    code, _, errors = await ran(sys.executable, "-m", "bridge", "bench", "http://127.0.0.1:9", *words)
    assert code == 2
    assert complaint in errors
