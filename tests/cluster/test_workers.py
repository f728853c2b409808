"""Several workers on one machine under one supervisor: a real Redis, real processes, callers of both kinds."""

import asyncio
import json
import os
import shutil
import signal
import socket
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, closing, suppress
from pathlib import Path
from subprocess import PIPE
from typing import Any

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from bridge.cluster.nodes import node_of
from tests.cluster.nodes import ADMIN, list_nodes, node_flags, said_by
from tests.cluster.redis import RunningRedis, redis_running, until
from tests.cluster.talking import come_back, items, noted, session_id, type_text, typed
from tests.end_to_end.real_peer import RealPeer
from tests.end_to_end.serving import COMMAND, LIMIT_S, Serving, free_port, logged, serving
from tests.end_to_end.web import EventSocket, open_socket, request
from tests.machine import scaled
from tests.processes import clean_environ, ran, started

pytestmark = [pytest.mark.foreign, pytest.mark.slow, pytest.mark.timeout(60)]

_LIMIT_S = scaled(20.0)
_COUNT = 2
_ASKED = 6  # at once, so that most likely each worker is asked


@pytest.fixture(scope="module")
def anyio_backend() -> tuple[str, dict[str, Any]]:
    """The workers are programs of their own: one loop for the client is enough."""
    return "asyncio", {"use_uvloop": False, "debug": False}


@pytest.fixture
async def redis() -> AsyncIterator[RunningRedis]:
    """One for each test: workers die here."""
    async with redis_running() as running:
        yield running


@asynccontextmanager
async def _working(folder: Path, redis: RunningRedis, *flags: str, **options: Any) -> AsyncIterator[Serving]:
    """A supervisor whose workers know each other."""
    flags = node_flags(redis, "--workers", str(_COUNT), *flags)
    async with serving(folder / "workers.log", *flags, **options) as running:
        await until(lambda: _all_serve(running))
        yield running


async def _all_serve(running: Serving) -> bool:
    with suppress(OSError):  # a worker has died, and the kernel has not noticed yet
        known = await asyncio.gather(*(list_nodes(running) for _ in range(_ASKED)))
        return all(
            sorted(node["worker"] for node in nodes if node["state"] == "serving") == [*range(_COUNT)]
            for nodes in known
        )
    return False


async def _worker_of(running: Serving, call_id: str) -> dict[str, Any]:
    """The node that has the call. The worker that is asked may not have heard of it yet."""
    found: list[dict[str, Any]] = []

    async def is_known() -> bool:
        found[:] = [node for node in await list_nodes(running) if node["id"] == node_of(call_id)]
        return bool(found)

    await until(is_known)
    return found[0]


def _kill(worker: dict[str, Any]) -> None:
    os.kill(worker["pid"], signal.SIGKILL)


async def _page(running: Serving, **headers: str) -> str:
    reply = await request("GET", f"{running.url}metrics", headers={**ADMIN, **headers})
    assert reply.status == 200
    return reply.body.decode()


def _values(page: str, name: str) -> dict[str, float]:
    """The sum of a metric for each worker."""
    found: Counter[str] = Counter()
    for line in page.splitlines():
        if line.startswith((f"{name}{{", f"{name} ")):
            labels, _, value = line.rpartition(" ")
            found[labels.partition('worker="')[2].partition('"')[0]] += float(value)  # type: ignore[assignment]
    return dict(found)


async def _owners(stack: AsyncExitStack, running: Serving, count: int) -> list[EventSocket]:
    opening = [open_socket(running.url, "model=m", additional_headers=ADMIN) for _ in range(count)]
    return [await stack.enter_async_context(each) for each in opening]


async def test_calls_spread_over_workers(redis: RunningRedis, tmp_path: Path) -> None:
    """At one port, each worker gets its share; any of them lists all, and one scrape has all in good order."""
    async with _working(tmp_path, redis) as running, AsyncExitStack() as stack:
        owners = await _owners(stack, running, 24)
        shares = Counter(node_of(session_id(owner)) for owner in owners)
        assert len(shares) == _COUNT
        assert min(shares.values()) >= 3, shares  # less than that comes once in 14,000 runs
        assert len((await said_by(running, "v1/calls")).json["data"]) == 24
        page = await _page(running)
        in_calls = _values(page, "bridge_calls")
        assert sum(in_calls.values()) == 24
        assert sorted(in_calls.values()) == sorted(shares.values())
        assert _values(page, "bridge_worker_up") == {"0": 1.0, "1": 1.0}
        assert _values(page, "process_open_fds").keys() == {"0", "1"}
        open_metrics = await _page(running, Accept="application/openmetrics-text;version=1.0.0")
        names = [each.name for each in text_string_to_metric_families(open_metrics)]  # type: ignore[no-untyped-call]
        assert len(names) == len(set(names)) > 50
        await _promtool_is_content(page)


async def _promtool_is_content(page: str) -> None:
    tool = shutil.which("promtool")
    assert tool, "needs promtool: make foreign"
    async with started(tool, "check", "metrics", stdin=PIPE) as process, asyncio.timeout(LIMIT_S):
        out, complaints = await process.communicate(page.encode())
    assert (process.returncode, out, complaints) == (0, b"", b"")


async def test_calls_outlive_their_worker(redis: RunningRedis, tmp_path: Path, short_pcm: bytes) -> None:
    """Killed: a WebSocket's owner and a WebRTC peer go on at another worker, in the same words, at the same address.

    The dead one is back within seconds, and the scrape stays right: each worker's series are its own.
    """
    async with _working(tmp_path, redis) as running, AsyncExitStack() as stack:
        peer = await stack.enter_async_context(RealPeer(running.url, headers=ADMIN))
        victim = await _worker_of(running, peer.call_id)
        while node_of(session_id(owner := (await _owners(stack, running, 1))[0])) != victim["id"]:
            pass
        key = peer.reply.headers["bridge-resume-key"]
        peer.send({"type": "conversation.item.create", "item": typed("remember this", "item_kept")})
        await peer.until("conversation.item.done")
        await type_text(owner, "the first thing", "item_first")
        await owner.until("response.done")
        await noted(redis, peer.call_id, "item_kept")
        await noted(redis, session_id(owner), "item_first")
        _kill(victim)
        await owner.closed.wait()
        back = await come_back(running, f"session_id={session_id(owner)}&after={owner.events[-1]['event_id']}")
        assert await items(back, "item_first") == ["the first thing"]
        await type_text(back, "the second thing", "item_second")
        await back.until("response.done")
        path = f"v1/realtime/calls/{peer.call_id}"
        again = await stack.enter_async_context(
            RealPeer(running.url, path=path, headers={**ADMIN, "Bridge-Resume-Key": key})
        )
        assert again.call_id == peer.call_id
        again.send({"type": "conversation.item.retrieve", "item_id": "item_kept"})
        kept = await again.until("conversation.item.retrieved")
        assert kept["item"]["content"][0]["text"] == "remember this"
        await again.speak(short_pcm)
        await again.until("output_audio_buffer.started")
        await until(lambda: _all_serve(running), _LIMIT_S)
        restarts = {str(number): float(number == victim["worker"]) for number in range(_COUNT)}

        async def is_counted() -> bool:  # a page may be a second old
            return _values(await _page(running), "bridge_worker_restarts_total") == restarts

        await until(is_counted)
        page = await _page(running)
        assert _values(page, "bridge_worker_up") == {"0": 1.0, "1": 1.0}
        assert _values(page, "bridge_calls_opened_total").keys() == {"0", "1"}
        await _promtool_is_content(page)
        await back.leave(None, None, None)  # type: ignore[attr-defined]
        died = await logged(running, "supervisor.worker_died")
        assert (died["worker"], died["how"]) == (victim["worker"], "killed by SIGKILL")


async def test_a_scrape_without_a_worker_has_the_others(redis: RunningRedis, tmp_path: Path) -> None:
    """While a worker is silent it is left out of the page after two seconds, and readiness does not wait for it."""
    async with _working(tmp_path, redis) as running:
        stopped = (await list_nodes(running))[0]
        os.kill(stopped["pid"], signal.SIGSTOP)
        other = 1 - stopped["worker"]
        try:
            async with asyncio.timeout(_LIMIT_S):
                page = await _from_one_that_answers(running, "metrics")
            assert _values(page, "process_open_fds").keys() == {str(other)}
            assert _values(page, "bridge_worker_up") == {"0": 1.0, "1": 1.0}
        finally:
            with suppress(ProcessLookupError):  # if that took long, it was replaced
                os.kill(stopped["pid"], signal.SIGCONT)
        await until(lambda: _all_serve(running), _LIMIT_S)


async def test_the_last_hour_is_that_of_all_workers(redis: RunningRedis, tmp_path: Path) -> None:
    """Whichever is asked: the calls and refusals of all, in samples that are the same at each; and since when."""
    began = time.time()
    async with _working(tmp_path, redis) as running, AsyncExitStack() as stack:
        owners = await _owners(stack, running, 12)
        assert len({node_of(session_id(owner)) for owner in owners}) == _COUNT
        for _ in range(12):
            reply = await request("GET", f"{running.url}v1/calls", headers={"Authorization": "Bearer sk-wrong"})
            assert reply.status == 401
        reports: list[dict[str, Any]] = []

        async def have_sampled() -> bool:
            asked = [said_by(running, "v1/load") for _ in range(_ASKED)]
            reports[:] = [reply.json for reply in await asyncio.gather(*asked)]
            return all(report["samples"] and report["samples"][-1]["calls"] == 12 for report in reports)

        await until(have_sampled, _LIMIT_S)
        for report in reports:
            assert (report["workers"], report["refused"]["invalid_api_key"]) == (_COUNT, 12)
            assert report["samples"][-1]["memory_bytes"] > _COUNT * 40e6
            assert report["started_at"] == reports[0]["started_at"]
            assert began <= report["started_at"] < report["samples"][0]["at"]
            assert all(sample["at"] % report["every_s"] == 0 for sample in report["samples"])
        last = reports[0]["samples"][-1]["at"]

        async def has_more() -> bool:
            later = (await said_by(running, f"v1/load?after={last}")).json["samples"]
            assert all(sample["at"] > last for sample in later)
            return bool(later)

        await until(has_more, _LIMIT_S)


async def test_a_worker_that_hangs_is_replaced(redis: RunningRedis, tmp_path: Path) -> None:
    """Stopped: its supervisor notices within seconds, kills it and starts it again; its call goes on at another."""
    async with _working(tmp_path, redis) as running, AsyncExitStack() as stack:
        [owner] = await _owners(stack, running, 1)
        await type_text(owner, "the first thing", "item_first")
        await owner.until("response.done")
        await noted(redis, session_id(owner), "item_first")
        victim = await _worker_of(running, session_id(owner))
        os.kill(victim["pid"], signal.SIGSTOP)
        await owner.closed.wait()
        died = await logged(running, "supervisor.worker_died")
        assert (died["worker"], died["how"]) == (victim["worker"], "killed by SIGKILL")
        hangs = await logged(running, "supervisor.worker_hangs")
        assert (hangs["worker"], hangs["pid"]) == (victim["worker"], victim["pid"])
        back = await come_back(running, f"session_id={session_id(owner)}&after={owner.events[-1]['event_id']}")
        assert await items(back, "item_first") == ["the first thing"]
        await until(lambda: _all_serve(running), _LIMIT_S)
        assert victim["pid"] not in {node["pid"] for node in await list_nodes(running)}
        await back.leave(None, None, None)  # type: ignore[attr-defined]


async def _from_one_that_answers(running: Serving, path: str) -> str:
    """The page of the worker that is not stopped: the kernel gives it every second connection."""
    async with asyncio.TaskGroup() as tasks:
        asking = [tasks.create_task(request("GET", f"{running.url}{path}", headers=ADMIN)) for _ in range(8)]
        done, rest = await asyncio.wait(asking, return_when=asyncio.FIRST_COMPLETED)
        for each in rest:
            each.cancel()
    return next(iter(done)).result().body.decode()


async def test_a_stop_under_calls_ends_with_0(redis: RunningRedis, tmp_path: Path) -> None:
    """SIGTERM drains all workers: nobody is sent to one that stops as well, and calls have their time."""
    async with _working(tmp_path, redis, "--drain-s", "1") as running, AsyncExitStack() as stack:
        owners = await _owners(stack, running, 8)
        for owner in owners:
            await type_text(owner, "a long thing\n" * 2000, "item_long")
        for owner in owners:
            await owner.until("response.created")
        running.process.send_signal(signal.SIGTERM)
        codes = await asyncio.gather(*(owner.close_code() for owner in owners))
        async with asyncio.timeout(_LIMIT_S):
            assert await running.process.wait() == 0
        assert set(codes) == {1012}
    stopped = [line["worker"] for line in running.log_lines() if line["event"] == "daemon.stopped"]
    assert sorted(stopped) == [0, 1]
    assert running.log_lines()[-1]["event"] == "supervisor.stopped"


async def test_one_log_has_all_workers(redis: RunningRedis, tmp_path: Path) -> None:
    """Each line is JSON and names its worker; the last words of one that crashes in C are there as well."""
    async with _working(tmp_path, redis) as running:
        workers = await list_nodes(running)
        os.kill(workers[0]["pid"], signal.SIGSEGV)
        died = await logged(running, "supervisor.worker_died")
        assert died["how"] == "killed by SIGSEGV"
        await until(lambda: _all_serve(running), _LIMIT_S)
        await running.stop()
    lines = running.log_lines()  # each is JSON
    assert {line["worker"] for line in lines if line["room"] != "supervisor"} == {0, 1}
    words = [line["text"] for line in lines if line["event"] == "supervisor.worker_output"]
    assert any("Segmentation fault" in text for text in words)
    assert {line["worker"] for line in lines if line["event"] == "supervisor.worker_output"} == {workers[0]["worker"]}


async def test_workers_go_if_their_supervisor_is_killed(redis: RunningRedis, tmp_path: Path) -> None:
    """They stop as at SIGTERM, so that whoever starts a supervisor again finds the ports free."""
    async with _working(tmp_path, redis, "--drain-s", "0") as running:
        pids = [node["pid"] for node in await list_nodes(running)]
        running.process.kill()

        async def are_gone() -> bool:
            return not any(_runs(pid) for pid in pids)

        await until(are_gone, _LIMIT_S)
    assert len([line for line in running.log_lines() if line["event"] == "supervisor.lost"]) == _COUNT


def _runs(pid: int) -> bool:
    """Whether the process has not ended; nobody may have asked yet how it has."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


async def test_workers_are_renewed_one_after_the_other(redis: RunningRedis, tmp_path: Path) -> None:
    """SIGUSR2: each ends and is started again while the others serve; an owner that comes back goes on."""
    async with _working(tmp_path, redis) as running, AsyncExitStack() as stack:
        before = {node["pid"] for node in await list_nodes(running)}
        [owner] = await _owners(stack, running, 1)
        await type_text(owner, "before", "item_before")
        await owner.until("response.done")
        await noted(redis, session_id(owner), "item_before")
        running.process.send_signal(signal.SIGUSR2)
        assert await owner.close_code() == 1012
        back = await come_back(running, f"session_id={session_id(owner)}&after={owner.events[-1]['event_id']}")
        assert await items(back, "item_before") == ["before"]

        async def are_new() -> bool:
            return await _all_serve(running) and not before & {node["pid"] for node in await list_nodes(running)}

        await until(are_new, 2 * _LIMIT_S)
        assert not [line for line in running.log_lines() if line["event"] == "supervisor.worker_died"]
        await back.leave(None, None, None)  # type: ignore[attr-defined]


@pytest.mark.parametrize("by", ["signal", "request"])
async def test_all_workers_read_the_settings_again(by: str, redis: RunningRedis, tmp_path: Path) -> None:
    """Whether the supervisor gets SIGHUP or any worker the request, a new key opens each of them."""
    keys = tmp_path / "keys"
    keys.write_text(f"{ADMIN['Authorization'].removeprefix('Bearer ').replace(' ', '-')}\n")
    admin = {"Authorization": f"Bearer {keys.read_text().strip()}"}
    flags = ("--redis-url", redis.url, "--cluster-secret", "a secret of the tests, long enough")
    command = (*flags, "--workers", str(_COUNT), "--api-key-file", str(keys))
    async with serving(tmp_path / "workers.log", *command) as running:
        keys.write_text(f"{keys.read_text().strip()}\nanother-key\n")
        if by == "signal":
            running.process.send_signal(signal.SIGHUP)
        else:
            reply = await request("POST", f"{running.url}v1/config/reload", headers=admin)
            assert reply.json["live"] == ["api_key"]

        async def have_read() -> bool:
            return {line["worker"] for line in running.log_lines() if line["event"] == "config.reloaded"} == {0, 1}

        await until(have_read)
        fresh = {"Authorization": "Bearer another-key"}
        replies = [await request("GET", f"{running.url}v1/calls", headers=fresh) for _ in range(8)]
        assert {reply.status for reply in replies} == {200}
        await running.stop()


async def test_a_service_manager_is_told_of_all(redis: RunningRedis, tmp_path: Path) -> None:
    """READY comes when every worker serves; a reload and a stop are told as well, by the supervisor alone."""
    told = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    with closing(told):
        told.bind(str(tmp_path / "notify"))
        told.setblocking(False)
        loop = asyncio.get_running_loop()

        async def next_state() -> str:
            async with asyncio.timeout(_LIMIT_S):
                return (await loop.sock_recv(told, 4096)).decode()

        async with _working(tmp_path, redis, NOTIFY_SOCKET=str(tmp_path / "notify")) as running:
            assert (await next_state()).endswith(f"with {_COUNT} workers")
            running.process.send_signal(signal.SIGHUP)
            assert (await next_state()).startswith("RELOADING=1")
            assert (await next_state()).startswith("READY=1")
            await running.stop()
            assert (await next_state()).startswith("STOPPING=1")


async def test_sockets_that_were_given_are_shared(redis: RunningRedis, tmp_path: Path) -> None:
    """One TCP socket at which any worker accepts, and a UDP socket for each; as many as there are workers, or none."""
    tcp = socket.create_server(("127.0.0.1", 0))
    port = tcp.getsockname()[1]
    udp = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(_COUNT)]
    with tcp, udp[0], udp[1]:
        for each in udp:
            each.bind(("0.0.0.0", 0))
        flags = ("--port", str(port))
        async with _working(tmp_path, redis, *flags, sockets=(tcp, *udp)) as running:
            ports = {line["udp_port"] for line in running.log_lines() if line["event"] == "daemon.serving"}
            assert ports == {each.getsockname()[1] for each in udp}
            async with RealPeer(running.url, headers=ADMIN) as peer:
                assert peer.call_id
            await running.stop()
        one_too_few = node_flags(redis, "--workers", str(_COUNT), *flags)
        with pytest.raises(AssertionError):
            async with serving(tmp_path / "refused.log", *one_too_few, sockets=(tcp, udp[0])):
                pass
        assert "udp_port: 1 sockets were passed for 2 workers" in (tmp_path / "refused.log").read_text()


async def _refused(*flags: str) -> str:
    """What a start that fails says at its end, with exit code 2 and nothing on standard output."""
    code, output, complaint = await ran(*COMMAND, *flags, environ=clean_environ(), limit_s=_LIMIT_S)
    assert (code, output) == (2, ""), complaint
    return complaint.splitlines()[-1]


async def test_a_start_that_cannot_be_is_refused(redis: RunningRedis, tmp_path: Path) -> None:
    """One line that names the setting: from the supervisor itself, and from a worker that cannot start."""
    assert "workers: needs redis_url" in await _refused("--workers", "2", "--port", "0")
    flags = node_flags(redis, "--workers", "2", "--engine", "parrot")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        complaint = await _refused(*flags, "--port", str(taken.getsockname()[1]))
    assert complaint.startswith("bridge: port: cannot listen on TCP 127.0.0.1:")
    port = free_port()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as second:
        second.bind(("0.0.0.0", 0))
        first_udp = second.getsockname()[1] - 1
        complaint = await _refused(*flags, "--port", str(port), "--udp-port", str(first_udp))
    assert complaint.startswith("bridge: udp_port: cannot bind UDP 0.0.0.0:")
    assert "replace: " in await _refused(*flags, "--port", str(port), "--replace")


async def test_nothing_of_it_is_imported_without_workers() -> None:
    """A process by itself loads no supervisor and no cluster; a supervisor loads no media and no HTTP."""
    report = (
        "import atexit, json, sys; atexit.register(lambda: sys.stderr.write(json.dumps(sorted(sys.modules))))\n"
        "from bridge.cli import main; main()"
    )

    async def modules(*flags: str) -> set[str]:
        words = ("serve", "--port", "0", "--engine", "parrot", *flags)
        async with started(sys.executable, "-c", report, *words, environ=clean_environ()) as process:
            assert process.stdout is not None
            assert b"bridge is ready" in await asyncio.wait_for(process.stdout.readline(), LIMIT_S)
            process.send_signal(signal.SIGTERM)
            _, complaint = await asyncio.wait_for(process.communicate(), LIMIT_S)
        return set(json.loads(complaint.splitlines()[-1]))

    alone = await modules()
    assert not {name for name in alone if name.startswith(("bridge.supervisor", "bridge.cluster", "redis"))}
    async with redis_running() as redis:
        supervisor = await modules(*node_flags(redis, "--workers", "1"))
    assert {"bridge.supervisor.supervisor"} <= supervisor
    assert not supervisor & {"bridge.daemon", "aiortc", "av", "uvicorn", "starlette", "redis"}
