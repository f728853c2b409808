"""The supervisor with small programs in place of workers, and its parts without any."""

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Callable
from contextlib import closing

import pytest

from bridge.config import Config
from bridge.config.workers import settings_of_worker
from bridge.errors import ConfigError
from bridge.log import LineWriter
from bridge.ports import GivenSocket
from bridge.service_manager import ServiceManager
from bridge.supervisor.backoff import Backoff
from bridge.supervisor.output import Output
from bridge.supervisor.ports import SharedPorts
from bridge.supervisor.process import WorkerCommand, described
from bridge.supervisor.supervisor import Supervisor
from bridge.worker_group import WorkerGroup, WorkerState
from tests.machine import scaled
from tests.settings import config_for_tests

_LIMIT_S = scaled(20.0)
_CLUSTER = {"redis_url": "redis://127.0.0.1:1", "cluster_secret": "a secret of the tests"}


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """Once: the supervisor runs on Python's own loop."""
    return "asyncio"


def _config(count: int = 2, **settings: object) -> Config:
    return config_for_tests(**{**_CLUSTER, "workers": count, **settings})


def _faults(**settings: object) -> dict[str, str]:
    return dict(_config(**{"count": 2, **settings}).faults())  # type: ignore[arg-type]


async def _supervised(program: str) -> tuple[list[str], int]:
    """What becomes of a supervisor whose workers run this program: what they wrote, and its exit code."""
    written: list[str] = []
    command = WorkerCommand(
        words=[sys.executable, "-c", program], environ=dict(os.environ), write=written.append, is_json=False
    )
    supervisor = Supervisor(_config(), _config, ServiceManager({}), LineWriter(2), command)
    async with asyncio.timeout(_LIMIT_S):
        return written, await supervisor.run([])


async def test_gives_up_if_a_worker_cannot_start() -> None:
    """After three attempts that end before the worker serves, with a sentence that says how they ended."""
    with pytest.raises(ConfigError, match=r"workers: worker \d could not start in 3 attempts \(exit code 3\)"):
        await _supervised("raise SystemExit(3)")


async def test_gives_up_if_no_process_can_be_started() -> None:
    """The system refuses it: that is told in its words, and nothing is left open."""
    command = WorkerCommand(words=["/nowhere/python"], environ={}, write=lambda line: None, is_json=False)
    supervisor = Supervisor(_config(), _config, ServiceManager({}), LineWriter(2), command)
    with pytest.raises(ConfigError, match=r"could not start in 3 attempts \(No such file or directory\)"):
        async with asyncio.timeout(_LIMIT_S):
            await supervisor.run([])


async def test_what_a_worker_refuses_is_the_supervisors_refusal() -> None:
    """At once: another attempt would find the same settings."""
    program = (
        "import os, socket; from bridge.supervisor.messages import *; from bridge.supervisor import messages\n"
        "connection = connection_to_supervisor(os.environ); messages.receive_assignment(connection)\n"
        "messages.send_message(connection, Failed(message='engine: there is none', param='engine'))"
    )
    with pytest.raises(ConfigError, match="engine: there is none") as refused:
        await _supervised(program)
    assert refused.value.param == "engine"


async def test_a_signal_ends_workers_that_do_not_serve_yet() -> None:
    """SIGTERM while they load: they have no handler yet, and end at once; the supervisor with 0."""
    loop = asyncio.get_running_loop()
    written: list[str] = []

    def write(line: str) -> None:
        written.append(line)
        if len(written) == 2:
            loop.call_soon(os.kill, os.getpid(), signal.SIGTERM)

    command = WorkerCommand(
        words=[sys.executable, "-c", "print('loading', flush=True)\nimport signal\nsignal.pause()"],
        environ=dict(os.environ),
        write=write,
        is_json=False,
    )
    supervisor = Supervisor(_config(), _config, ServiceManager({}), LineWriter(2), command)
    async with asyncio.timeout(_LIMIT_S):
        assert await supervisor.run([]) == 0
    assert written == ["loading\n", "loading\n"]


async def test_a_worker_that_hangs_says_where_and_is_started_again() -> None:
    """Its event loop stands still after it has begun to serve: it gets a signal at which it writes its stack."""
    loop = asyncio.get_running_loop()
    program = (
        "import faulthandler, os, time; faulthandler.enable()\n"
        "from bridge.supervisor.messages import *; from bridge.supervisor import messages\n"
        "connection = connection_to_supervisor(os.environ); messages.receive_assignment(connection)\n"
        "told = dict(url='http://127.0.0.1:1/', node_url='', udp_port=1, engine='parrot', drain_s=0.0)\n"
        "messages.send_message(connection, Serving(node_id=str(os.getpid()), **told))\n"
        "def hang_here(): time.sleep(3600)\n"
        "hang_here()"
    )
    stacks: list[str] = []

    def write(line: str) -> None:
        if "in hang_here" in line:
            stacks.append(line)
            if len(stacks) == 4:  # each of the two workers twice, or one three times
                loop.call_soon(os.kill, os.getpid(), signal.SIGTERM)

    command = WorkerCommand(words=[sys.executable, "-c", program], environ=dict(os.environ), write=write, is_json=False)
    supervisor = Supervisor(_config(), _config, ServiceManager({}), LineWriter(2), command, look_s=0.02)
    async with asyncio.timeout(_LIMIT_S):
        assert await supervisor.run([]) == 0
    assert len(stacks) >= 4


def test_waits_double_until_a_worker_has_served_for_a_minute() -> None:
    """From a quarter of a second to half a minute; one that was well begins anew."""
    backoff = Backoff()
    assert [backoff.ended(0.0) for _ in range(9)] == [0.25, 0.5, 1, 2, 4, 8, 16, 30, 30]
    assert backoff.failed_starts == 9
    backoff.serves(100.0)
    assert (backoff.is_serving, backoff.failed_starts) == (True, 0)
    assert backoff.ended(159.0) == 30
    assert not backoff.is_serving
    backoff.serves(200.0)
    assert backoff.ended(260.0) == 0.25


def test_ends_are_told_in_words() -> None:
    """An exit code, or the signal by its name."""
    assert [described(code) for code in (1, -9, -64)] == ["exit code 1", "killed by SIGKILL", "killed by SIGRTMAX"]


def _output(is_json: bool, write: Callable[[str], object], tell: Callable[[str], object]) -> Output:
    return Output(write, tell, is_json=is_json)


async def test_every_line_arrives_whole() -> None:
    """Pieces of lines are put together; the last one needs no end; what is no JSON is told as an event of its own."""
    lines: list[str] = []
    told: list[str] = []
    output = _output(True, lines.append, told.append)
    for piece in (b'{"event": "o', b'ne"}\n{"event": "two"}\nFatal Python error: ', b"Aborted\n\n", b'{"event": "cut'):
        os.write(output.end, piece)
    os.close(output.end)
    output.finish()
    assert lines == ['{"event": "one"}\n', '{"event": "two"}\n']
    assert told == ["Fatal Python error: Aborted", '{"event": "cut']


async def test_more_than_a_pipe_holds_arrives() -> None:
    """A worker that writes very much is read while it runs, and a line without end is cut."""
    lines: list[str] = []
    output = _output(False, lines.append, lines.append)
    data = b"x" * 100 + b"\n"
    await asyncio.to_thread(_write_all, output.end, data * 20_000 + b"y" * 600_000)
    os.close(output.end)
    output.finish()
    assert lines[:20_000] == [data.decode()] * 20_000
    assert sum(line.count("y") for line in lines[20_000:]) == 600_000
    assert max(map(len, lines)) < 400_000


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def test_each_worker_has_ports_and_folders_of_its_own() -> None:
    """Counted from those of the settings; port 0 picks a free one for each."""
    config = _config(port=8080, udp_port=9000, ice_tcp_port=7000, record_dir="/r", node_url="http://10.0.0.5:8090")
    own = [settings_of_worker(config, number) for number in range(2)]
    assert [each.media.udp_port for each in own] == [9000, 9001]
    assert [each.media.ice_tcp_port for each in own] == [7000, 7001]
    assert [each.recording.record_dir for each in own] == ["/r/worker-0", "/r/worker-1"]
    assert [each.cluster.node_url for each in own] == ["http://10.0.0.5:8090", "http://10.0.0.5:8091"]
    assert [each.media.ice_tcp_on_port for each in own] == [False, False]
    assert [list(each.faults()) for each in own] == [[], []]
    behind_port = settings_of_worker(_config(port=8080, udp_port=None), 3)
    assert (behind_port.media.udp_port, behind_port.media.ice_tcp_port) == (8083, None)
    assert settings_of_worker(_config(port=0, udp_port=None), 1).media.udp_port == 0


def test_settings_that_do_not_fit_workers_are_refused() -> None:
    """Each names the setting that is to be changed."""
    assert "needs redis_url" in _faults(redis_url=None)["workers"]
    assert _faults(host="0.0.0.0", api_key=("key",)) == {}
    assert "room for 2 workers" in _faults(port=0, udp_port=65_535)["udp_port"]
    assert "needs a port" in _faults(node_url="http://10.0.0.5")["node_url"]
    assert "must leave port 8091 to clients" in _faults(port=8091, node_url="http://10.0.0.5:8090")["node_url"]
    assert "each agent waits at one worker" in _faults(upstream="agent")["node_url"]
    assert _faults(upstream="agent", port=8080, node_url="http://10.0.0.5:8090") == {}


def test_each_worker_has_a_socket_of_its_own_at_one_port() -> None:
    """It is bound with SO_REUSEPORT; nobody else gets the port meanwhile."""
    ports = SharedPorts(_config(port=0))
    try:
        one, other = (ports.of_worker(number)["port"] for number in range(2))
        with one, other:
            assert one.getsockname() == other.getsockname() == ("127.0.0.1", ports.port)
            one.listen()
            other.listen()
            with pytest.raises(ConfigError, match="port: cannot listen on TCP"):
                SharedPorts(_config(port=ports.port))
    finally:
        ports.close()


def test_given_sockets_that_are_not_one_for_each_are_refused() -> None:
    """A UDP socket belongs to one worker."""
    with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as udp:
        udp.bind(("127.0.0.1", 0))
        with pytest.raises(ConfigError, match="udp_port: 1 sockets were passed for 2 workers"):
            SharedPorts(_config(), [GivenSocket(udp)])


def test_a_worker_knows_who_leaves_with_it() -> None:
    """Only if all stop, and only the workers of its machine."""
    worker_group = WorkerGroup(0, 2, 0.0)
    worker_group.workers = [
        WorkerState(number=number, is_serving=True, node_id=name) for number, name in enumerate("ab")
    ]
    assert [worker.node_id for worker in worker_group.others] == ["b"]
    assert not worker_group.leaves_with("b")
    worker_group.is_leaving = True
    assert worker_group.leaves_with("b")
    assert not worker_group.leaves_with("c")
