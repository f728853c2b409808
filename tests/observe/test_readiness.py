"""``GET /readyz``: what keeps new calls from being served, and how often it is tried."""

import asyncio
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from msgspec.structs import replace
from structlog.testing import capture_logs

from bridge.observe.readiness import Probe, ReadinessChecks, disk_probe
from bridge.wire.stats import DaemonStats
from tests.end_to_end.conftest import ServeWith
from tests.end_to_end.web import request
from tests.fakes import FakeClock
from tests.observe.figures import DAEMON
from tests.upstream.service import Refusal, Service

_WELL = replace(DAEMON, is_overloaded=False)


class Process:
    """A process with one thing to try, which is well unless ``wrong`` says otherwise."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.stats: DaemonStats = _WELL
        self.wrong: str | None = None
        self.tries = 0
        self.checks = ReadinessChecks(lambda: self.stats, {"upstream": self._probe}, fresh_s=5.0, clock=self.clock)

    async def _probe(self) -> str | None:
        self.tries += 1
        return self.wrong

    async def reasons(self) -> dict[str, str | None]:
        """What is wrong, by the names of the checks."""
        report = await self.checks.report()
        wrong = {check.name: check.reason for check in report.checks if not check.is_ok}
        assert report.is_ready is (wrong == {})
        return wrong


@pytest.fixture
def thread() -> Iterator[ThreadPoolExecutor]:
    """For what may block."""
    with ThreadPoolExecutor(1) as executor:
        yield executor


async def test_what_the_process_knows_counts_at_once() -> None:
    """Draining and lateness are not remembered."""
    process = Process()
    assert await process.reasons() == {}
    process.stats = replace(_WELL, is_draining=True)
    assert list(await process.reasons()) == ["draining"]
    process.stats = replace(_WELL, is_overloaded=True)
    assert await process.reasons() == {"load": "The event loop is 12 ms late."}
    process.stats = _WELL
    assert await process.reasons() == {}


async def test_what_has_to_be_tried_is_tried_once_in_a_while() -> None:
    """However many ask at the same time, and however often, an upstream is asked once in five seconds."""
    process = Process()
    process.wrong = "No upstream answers."
    await asyncio.gather(*(process.reasons() for _ in range(10)))
    assert process.tries == 1
    process.wrong = None
    process.clock.now += 4.9
    assert await process.reasons() == {"upstream": "No upstream answers."}
    process.clock.now += 0.1
    assert await process.reasons() == {}
    assert process.tries == 2


async def test_a_check_that_hangs_or_fails_is_no_good_sign() -> None:
    """Within a bounded time there is an answer, and a fault of the check itself is told in the log alone."""

    async def hang() -> str | None:
        await asyncio.Event().wait()
        return None

    async def fail() -> str | None:
        raise RuntimeError("a secret")

    probes: dict[str, Probe] = {"upstream": hang, "recordings": fail}
    with capture_logs() as lines:
        report = await ReadinessChecks(lambda: _WELL, probes, limit_s=0.01).report()
    reasons = [check.reason for check in report.checks if not check.is_ok]
    assert reasons == ["No answer within 0.01 s.", "The check itself failed; see the server's log."]
    assert [line["event"] for line in lines] == ["observe.probe_failed", "observe.not_ready"]


async def test_the_log_tells_of_each_change_once() -> None:
    """Whoever asks every second does not fill the log."""
    process = Process()
    with capture_logs() as lines:
        for is_draining in (False, True, True, False, False):
            process.stats = replace(_WELL, is_draining=is_draining)
            await process.reasons()
    assert [line["event"] for line in lines] == ["observe.not_ready", "observe.ready"]


async def test_a_disk_that_is_nearly_full(tmp_path: Path, thread: ThreadPoolExecutor) -> None:
    """What is left to us counts; a folder that is gone is as bad."""
    found = await asyncio.get_running_loop().run_in_executor(thread, os.statvfs, tmp_path)
    left = found.f_bavail * found.f_frsize
    assert await disk_probe(str(tmp_path), left // 2, thread)() is None
    reason = await disk_probe(str(tmp_path), left * 2, thread)()
    assert reason is not None
    assert reason.startswith("The disk for recordings has ")
    gone = await disk_probe(str(tmp_path / "gone"), 1, thread)()
    assert gone == "The directory for recordings cannot be used: No such file or directory."


async def test_a_daemon_with_the_engine_is_ready(serve_with: ServeWith) -> None:
    """On both ports, without a key; only while it drains it is not, and then it still lives."""
    async with serve_with(api_key=("sk-test",), metrics_port=0) as daemon:
        for url in (daemon.url, f"http://127.0.0.1:{daemon.metrics_port}/"):
            reply = await request("GET", f"{url}readyz")
            assert (reply.status, reply.json["is_ready"]) == (200, True)
            assert [check["name"] for check in reply.json["checks"]] == ["draining", "load", "upstream"]
        daemon.registry.stop_accepting()
        reply = await request("GET", f"{daemon.url}readyz")
        assert (reply.status, reply.headers["content-type"]) == (503, "application/json")
        assert reply.json["checks"][0] == {
            "name": "draining",
            "is_ok": False,
            "reason": "The server is about to stop and accepts no new calls.",
        }
        for url in (daemon.url, f"http://127.0.0.1:{daemon.metrics_port}/"):
            assert (await request("GET", f"{url}healthz")).status == 200


async def test_a_daemon_whose_upstream_is_down_is_not(serve_with: ServeWith) -> None:
    """Nobody listens there: 503, without the address of it; with the engine behind it, calls would be served."""
    async with Service.serving(Refusal(401)) as service:
        async with serve_with(upstream=service.url) as daemon:
            assert (await request("GET", f"{daemon.url}readyz")).status == 200
        url = service.url
    async with serve_with(upstream=url) as daemon:
        reply = await request("GET", f"{daemon.url}readyz")
        assert reply.status == 503
        assert reply.json["checks"][2]["reason"] == "No upstream answers."
    async with serve_with(upstream=url, upstream_fallback=("local",)) as daemon:
        assert (await request("GET", f"{daemon.url}readyz")).status == 200


async def test_a_service_that_only_complains_of_itself_does_not_answer(serve_with: ServeWith) -> None:
    """A gateway without its backend accepts connections."""
    async with Service.serving(Refusal(503)) as service, serve_with(upstream=service.url) as daemon:
        assert (await request("GET", f"{daemon.url}readyz")).status == 503
        assert service.knocks == 1


async def test_a_daemon_whose_disk_is_full_is_not(serve_with: ServeWith, tmp_path: Path) -> None:
    """If it records: calls would be served, and lost."""
    async with serve_with(record_dir=str(tmp_path), ready_free_bytes=2**62) as daemon:
        reply = await request("GET", f"{daemon.url}readyz")
        assert reply.status == 503
        assert reply.json["checks"][3]["name"] == "recordings"


async def test_a_disk_that_hangs_keeps_nobody_else(
    serve_with: ServeWith, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``/readyz`` says that it does not answer, it is asked no second time, and ``/metrics`` goes on."""
    answers = threading.Event()
    asked: list[str] = []

    def statvfs(folder: str) -> os.statvfs_result:
        asked.append(folder)
        answers.wait()
        raise OSError(5, "Input/output error")

    async with serve_with(record_dir=str(tmp_path)) as daemon:
        monkeypatch.setattr("bridge.observe.readiness.os.statvfs", statvfs)
        daemon.observer._readiness._limit_s, daemon.observer._readiness._fresh_s = 0.05, 0.0
        try:
            for _ in range(3):
                assert (await request("GET", f"{daemon.url}readyz")).status == 503
            assert (await request("GET", f"{daemon.url}metrics")).status == 200
            assert asked == [str(tmp_path)]
        finally:
            answers.set()
