"""``GET /metrics`` of a live daemon: who may see it, in which form, and what a real call leaves there."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from websockets.exceptions import InvalidStatus

from bridge.daemon import Daemon
from bridge.observe.exposition import Exposition
from bridge.observe.metrics import Metrics
from bridge.session.session import Session
from bridge.wire.stats import DaemonStats
from tests.end_to_end.conftest import ServeWith
from tests.end_to_end.real_peer import RealPeer
from tests.end_to_end.web import Reply, open_socket, request
from tests.observe.figures import DAEMON, Figures, read

_KEY = "sk-observe-test"
_BEARER = {"Authorization": f"Bearer {_KEY}"}


async def _figures(daemon: Daemon) -> Figures:
    """What the page says now: the daemon's own text may be a second old."""
    return read(await _text(daemon))


async def _text(daemon: Daemon) -> str:
    """The page as it is now."""
    with ThreadPoolExecutor(1) as thread:
        text, _ = await Exposition(daemon.observer.metrics, thread, fresh_s=0).text("")
    return text.decode()


def _openmetrics(text: str) -> list[str]:
    """The names in a page of OpenMetrics, which is in good order to its end."""
    families = text_string_to_metric_families(text)  # type: ignore[no-untyped-call]
    return [family.name for family in families]


async def _scrape(url: str, **headers: str) -> Reply:
    return await request("GET", f"{url}metrics", headers=headers)


async def test_a_page_that_prometheus_can_read(daemon: Daemon) -> None:
    """Prometheus's format unless OpenMetrics is asked for; the process's own figures are in it."""
    reply = await _scrape(daemon.url)
    assert (reply.status, reply.headers["content-type"].partition(";")[0]) == (200, "text/plain")
    assert reply.headers["cache-control"] == "no-store"
    found = read(reply.body.decode())
    assert found["process_resident_memory_bytes"][()] > 10_000_000
    assert found["bridge_build_info"]
    accept = "application/openmetrics-text;version=1.0.0,text/plain;q=0.5"
    reply = await _scrape(daemon.url, Accept=accept)
    assert reply.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    assert "bridge_calls" in _openmetrics(reply.body.decode())


async def test_metrics_ask_for_a_key_of_the_server(serve_with: ServeWith) -> None:
    """Without a key 401, with one that was minted for a client 403."""
    async with serve_with(api_key=(_KEY,)) as daemon:
        assert (await _scrape(daemon.url)).status == 401
        minted = await request("POST", f"{daemon.url}v1/realtime/client_secrets", headers=_BEARER, body="{}")
        assert (await _scrape(daemon.url, Authorization=f"Bearer {minted.json['value']}")).status == 403
        assert (await _scrape(daemon.url, **_BEARER)).status == 200


async def test_a_port_of_their_own_asks_for_none(serve_with: ServeWith) -> None:
    """There they are for whoever reaches it, and at the daemon's own port they are not any more."""
    async with serve_with(api_key=(_KEY,), metrics_port=0) as daemon:
        own = f"http://127.0.0.1:{daemon.metrics_port}/"
        assert (await _scrape(own)).status == 200
        assert (await request("GET", f"{own}v1/calls")).status == 404
        assert (await _scrape(daemon.url, **_BEARER)).status == 404


async def test_requests_are_counted_by_route_and_status(daemon: Daemon, offer: str) -> None:
    """A route is a pattern: neither a call's id nor a stranger's path is a label."""
    for path in ("v1/calls/rtc_1", "v1/calls/rtc_2", "no/such/thing", "wp-login.php"):
        assert (await request("GET", daemon.url + path)).status == 404
    assert (await request("PROPFIND", f"{daemon.url}v1/models")).status == 405
    sdp = {"Content-Type": "application/sdp"}
    assert (await request("POST", f"{daemon.url}v1/realtime/calls", headers=sdp, body=offer)).status == 201
    async with open_socket(daemon.url, "model=any"):
        with pytest.raises(InvalidStatus):
            async with open_socket(daemon.url, "call_id=rtc_nope"):
                pass
    found = await _figures(daemon)
    assert found["bridge_http_requests_total"] == {
        ("GET", "/v1/calls/{call_id}", "404"): 2,
        ("GET", "unmatched", "404"): 2,
        ("other", "/v1/models", "405"): 1,
        ("POST", "/v1/realtime/calls", "201"): 1,
        ("GET", "/v1/realtime", "101"): 1,
        ("GET", "/v1/realtime", "404"): 1,
    }


async def test_a_fault_of_ours_is_counted(daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    """What nobody foresaw is answered with 500, and counted as such."""

    async def fail() -> None:
        raise RuntimeError("on purpose")

    monkeypatch.setattr(daemon.registry.directory, "list", fail)
    assert (await request("GET", f"{daemon.url}v1/calls")).status == 500
    assert (await _figures(daemon))["bridge_http_requests_total"] == {("GET", "/v1/calls", "500"): 1}


@pytest.mark.slow
async def test_a_real_call_leaves_its_figures(daemon: Daemon, short_pcm: bytes) -> None:
    """Packets, set-up, one turn with its latency and its answer, and the end; no id of the call anywhere."""
    async with RealPeer(daemon.url) as peer:
        await peer.speak(short_pcm)
        await peer.until("output_audio_buffer.started")
        await peer.until("response.done")
        running = await _figures(daemon)
        assert peer.call_id not in await _text(daemon)
        session = daemon.registry.find(peer.call_id)
    await session.lifetime.closed.wait()
    assert running["bridge_calls"]["", "connected", "webrtc"] == 1
    assert running["bridge_listeners"]["peer",] == 1
    assert running["bridge_rtp_packets_received_total"][()] > 100
    assert running["bridge_turn_latency_seconds_count"] == {("local",): 1}
    assert (
        0
        < running["bridge_turn_latency_seconds_sum"]["local",]
        < running["bridge_call_first_sound_seconds_sum"]["", "webrtc"]
    )
    assert running["bridge_answers_total"] == {("local",): 1}
    found = await _figures(daemon)
    assert found["bridge_calls_closed_total"]["", "success", "webrtc"] == 1
    assert sum(found["bridge_call_endings_total"].values()) == 1
    assert found["bridge_call_setup_seconds_count"]["", "webrtc"] == 1
    assert found["bridge_rtp_packets_received_total"][()] >= running["bridge_rtp_packets_received_total"][()]


async def test_who_asks_often_gets_the_same_page() -> None:
    """Within a second the calls are read once, however many ask, and in whichever form."""
    reads = 0

    def stats() -> DaemonStats:
        nonlocal reads
        reads += 1
        return DAEMON

    def find(call_id: str) -> Session:
        raise AssertionError(call_id)

    accepted = ("", "", "application/openmetrics-text", "")
    with ThreadPoolExecutor(1) as thread:
        exposition = Exposition(Metrics(find, stats), thread, fresh_s=3600)
        pages = await asyncio.gather(*map(exposition.text, accepted))
    assert reads == 1
    assert len({page for page, _ in pages}) == 2
