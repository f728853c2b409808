"""GStreamer's webrtcbin, on libnice, calls the bridge from a network of its own."""

from typing import Any

import pytest

from bridge.daemon import Daemon
from bridge.webrtc.ice import IceLite
from bridge.wire.stats import CallResult
from tests.end_to_end.event_log import inbound_sound, outbound_sound
from tests.end_to_end.sound import match, samples_of
from tests.foreign.network import inside, network
from tests.foreign.peers import FOLDER, LIKENESS, converse, heard_by
from tests.sdk_js.node import scenario
from tests.settings import config_for_tests

_KEY = "sk-test"
_PYTHON = "/usr/bin/python3"  # it alone has the system's bindings of GStreamer
_CONSENT_S = 30  # RFC 7675 section 5.1
_LONG_S = 45
_BEFORE_MS, _AFTER_MS = 500, 3500
_BYTES_PER_MS = 48


@pytest.mark.parametrize(
    ("turns_at_s", "peer_hangs_up"), [((0, 20, 41), True), ((0,), False)], ids=["long-peer-hangs-up", "bridge-hangs-up"]
)
async def test_it_speaks_and_is_answered(
    speech: dict[str, str], short_pcm: bytes, turns_at_s: tuple[int, ...], peer_hangs_up: bool
) -> None:
    """A listener hears each turn of the peer's, the peer hears the answers, for longer than consent lasts."""
    words = samples_of(short_pcm)
    async with network() as net:
        namespace = await net.namespace()
        host, _ = await net.link(None, namespace)
        config = config_for_tests(host=host, api_key=(_KEY,))
        async with Daemon(config) as daemon:
            command = (*inside(namespace), _PYTHON)
            inputs: dict[str, Any] = {"url": daemon.url, "key": _KEY, "pcm": speech["pcm"], "hangsUp": peer_hangs_up}
            peer = scenario("webrtcbin.py", "call", folder=FOLDER, command=command, turnsAtS=turns_at_s, **inputs)
            async with peer as log:
                listener, told = await converse(
                    daemon, log, peer_hangs_up=peer_hangs_up, turns=len(turns_at_s), key=_KEY
                )
    caller = inbound_sound(listener.events)
    starts_ms = [event["audio_start_ms"] for event in listener.of("input_audio_buffer.speech_started")]
    assert len(starts_ms) == len(turns_at_s)
    for start_ms in starts_ms:
        turn = caller[max(0, start_ms - _BEFORE_MS) * _BYTES_PER_MS : (start_ms + _AFTER_MS) * _BYTES_PER_MS]
        assert match(samples_of(turn), words).correlation > LIKENESS
    assert len(caller) >= (turns_at_s[-1] - turns_at_s[0]) * 1000 * _BYTES_PER_MS + len(short_pcm)
    assert match(samples_of(outbound_sound(listener.events)), words).correlation > LIKENESS
    assert match(heard_by(told), words).correlation > LIKENESS
    if len(turns_at_s) > 1:
        assert told["connected_s"] >= _LONG_S


async def test_without_our_checks_its_consent_runs_out(monkeypatch: pytest.MonkeyPatch, speech: dict[str, str]) -> None:
    """The peer sends no check once it is connected: what keeps its calls alive for longer than 30 s are ours."""
    monkeypatch.setattr(IceLite, "keep_consent", lambda agent, now: None)
    async with network() as net:
        namespace = await net.namespace()
        host, _ = await net.link(None, namespace)
        async with Daemon(config_for_tests(host=host, api_key=(_KEY,), resume_grace_s=0)) as daemon:
            command = (*inside(namespace), _PYTHON)
            inputs: dict[str, Any] = {"url": daemon.url, "key": _KEY, "pcm": speech["pcm"], "hangsUp": False}
            async with scenario("webrtcbin.py", "call", folder=FOLDER, command=command, turnsAtS=(0,), **inputs) as log:
                session = daemon.registry.find((await log.until("peer.connected"))["call_id"])
                await session.lifetime.closed.wait()
                assert session.lifetime.result == (CallResult.CLIENT_ERROR, "peer_lost")
                assert session.lifetime.seconds >= _CONSENT_S
                log.end_input()
                await log.until("peer.gone")
