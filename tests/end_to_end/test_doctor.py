"""``bridge doctor`` as people type it: a machine alone, a bridge that runs, and each thing that can be wrong."""

import asyncio
import io
import json
import resource
import socket
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, closing, redirect_stdout
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from bridge.cli import _parser
from bridge.config.load import Sources
from bridge.doctor.command import run_doctor
from bridge.doctor.table import EXAMINATIONS
from bridge.engine.local import Local
from tests.cluster.redis import SECRET, RunningRedis, free_port
from tests.end_to_end.serving import Serving, serving
from tests.engine.chat_service import ChatService, refuse, say
from tests.engine.speech_service import SpeechService
from tests.processes import clean_environ, ran
from tests.settings import SECTIONS

pytestmark = pytest.mark.slow

_BRIDGE = (sys.executable, "-m", "bridge")
_KEY = "doctors-key"


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """Once: which loop the tests run on is nothing to a process of its own."""
    return "asyncio"


@pytest.fixture(scope="module")
async def daemon(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Serving]:
    """A bridge with a key that is well."""
    log = tmp_path_factory.mktemp("doctor") / "log"
    async with serving(log, "--drain-s", "0", BRIDGE_API_KEY=_KEY) as running:
        yield running


async def _examined(*words: str, **environ: str) -> tuple[int, dict[str, list[dict[str, str]]]]:
    """The exit code, and what was found, by the examination."""
    given = {"BRIDGE_PORT": "0", "BRIDGE_UDP_PORT": "0", **environ}
    out = io.StringIO()

    def examine() -> int:
        arguments = _parser(["doctor"]).parse_args(["doctor", "--json", *words])
        sources = Sources(vars(arguments), given, arguments.config, SECTIONS)
        with redirect_stdout(out):
            return run_doctor(arguments, sources, given, asyncio.Runner)

    code = await asyncio.to_thread(examine)
    report = json.loads(out.getvalue().splitlines()[-1])  # behind what libraries log in a test
    found: dict[str, list[dict[str, str]]] = {}
    for one in report["findings"]:
        found.setdefault(one["name"], []).append(one)
        assert (one["advice"] == "") is (one["level"] == "ok"), one
    assert report["object"] == "bridge.doctor"
    levels = [one["level"] for ones in found.values() for one in ones]
    assert (report["faults"], report["warnings"]) == (levels.count("fault"), levels.count("warning"))
    assert code == (1 if report["faults"] else 0)
    return code, found


@asynccontextmanager
async def _service(answers: Mapping[str, tuple[int, str]], date: str = "") -> AsyncIterator[tuple[str, list[str]]]:
    """An HTTP server that answers each path by a status and a body; its address, and the requests with their keys."""
    asked: list[str] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        method, path, _ = head[0].split()
        key = next((line.partition(": ")[2] for line in head if line.lower().startswith("authorization")), "")
        asked.append(f"{method} {path} {key}".strip())
        status, body = answers.get(path, (404, ""))
        dated = f"Date: {date}\r\n" if date else ""
        writer.write(
            f"HTTP/1.1 {status} -\r\n{dated}Content-Length: {len(body)}\r\nConnection: close\r\n\r\n{body}".encode()
        )
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}", asked


async def test_a_machine_without_a_bridge() -> None:
    """Settings, ports and the machine are judged, and that nothing runs is no fault."""
    code, found = await _examined()
    assert code == 0
    assert {"settings", "ports", "addresses", "files", "upstreams", "answers"} == found.keys()
    assert found["answers"][0]["says"].startswith("no bridge runs")
    assert found["upstreams"][0]["says"] == "upstream: the embedded engine answers"


async def test_a_bridge_that_is_well(daemon: Serving) -> None:
    """Every line is fine, and a call was made to it that is over: its media came through."""
    code, found = await _examined(daemon.url, BRIDGE_API_KEY=_KEY)
    assert code == 0
    assert {"answers", "ready", "key", "clock", "media", "open_files"} <= found.keys()
    assert [one for ones in found.values() for one in ones if one["level"] == "fault"] == []
    media, told = found["media"]
    assert "(ICE, DTLS, data channel)" in media["says"]
    assert f":{daemon.udp_port}" in told["says"]
    listing, out, _ = await ran(
        *_BRIDGE, "calls", "--json", environ=clean_environ(BRIDGE_URL=daemon.url, BRIDGE_API_KEY=_KEY)
    )
    assert (listing, json.loads(out)["data"]) == (0, [])


async def test_people_read_lines(daemon: Serving) -> None:
    """A line each as soon as it is known, what to do under it, and at the end how many there were."""
    environ = clean_environ(BRIDGE_URL=daemon.url, BRIDGE_API_KEY=_KEY, BRIDGE_SERVICE_HOST="10.0.0.1", BRIDGE_PORT="0")
    code, out, errors = await ran(*_BRIDGE, "doctor", environ=environ)
    lines = out.splitlines()
    assert (code, errors) == (0, "")
    assert lines[0].startswith("warning  settings")
    assert lines[1].strip().startswith("→ give the service another name")
    assert lines[2].startswith("ok       settings")
    assert lines[-1].startswith("no faults, ")


async def test_a_bridge_is_found_at_the_address_of_the_settings(tmp_path: Path) -> None:
    """Without a URL; the same flags and variables with which it was started are enough."""
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    flags = ("--port", str(port), "--udp-port", "0")
    async with serving(tmp_path / "log", *flags, "--drain-s", "0", BRIDGE_API_KEY=_KEY):
        code, found = await _examined(*flags, BRIDGE_API_KEY=_KEY)
    assert code == 0
    assert "in use by a running bridge" in found["ports"][0]["says"]
    assert "media" in found


async def test_media_that_does_not_come_through(tmp_path: Path) -> None:
    """An advertised address that leads nowhere is a fault that names it, and says what to set."""
    advertise = ("--advertise", "192.0.2.77")
    async with serving(tmp_path / "log", *advertise, "--drain-s", "0") as running:
        code, found = await _examined(running.url)
    assert code == 1
    (media,) = found["media"]
    assert media["level"] == "fault"
    assert "192.0.2.77:" in media["says"]
    assert "set advertise to the one at which 127.0.0.1 is reached" in media["advice"]


async def test_a_bridge_that_serves_no_new_call(tmp_path: Path) -> None:
    """What ``/readyz`` complains of is a fault each."""
    async with serving(tmp_path / "log", "--upstream", "ws://127.0.0.1:9/v1/realtime", "--drain-s", "0") as running:
        code, found = await _examined(running.url)
    assert code == 1
    assert [one["level"] for one in found["ready"]] == ["fault"]
    assert "upstream" in found["ready"][0]["says"]


async def test_keys_and_urls_that_are_wrong(daemon: Serving) -> None:
    """A key that the API refuses, and a URL at which nobody answers; the rest is not asked then."""
    code, found = await _examined(daemon.url, BRIDGE_API_KEY="wrong")
    assert code == 1
    assert found["key"][0]["level"] == "fault"
    assert "BRIDGE_API_KEY" in found["key"][0]["advice"]
    assert found["media"][0]["level"] == "fault"
    code, found = await _examined("http://127.0.0.1:9")
    assert (code, found["answers"][0]["level"]) == (1, "fault")
    assert "media" not in found


async def test_faults_of_the_settings(tmp_path: Path) -> None:
    """All of them, not the first alone, and Kubernetes' variables."""
    file = tmp_path / "bridge.toml"
    file.write_text("max_calls = 'many'\nmax_cals = 5\n")
    code, found = await _examined("--config", str(file), BRIDGE_PORT="tcp://10.0.0.1:8080")
    assert code == 1
    assert [one["level"] for one in found["settings"]] == ["warning", "fault", "fault"]
    assert "BRIDGE_PORT looks like a setting" in found["settings"][0]["says"]
    assert "did you mean max_calls?" in found["settings"][2]["says"]


async def test_a_port_that_another_program_has() -> None:
    """Of TCP and of UDP, each with the setting that names it."""
    with closing(socket.socket()) as tcp, closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as udp:
        tcp.bind(("127.0.0.1", 0))
        tcp.listen()
        udp.bind(("0.0.0.0", 0))
        numbers = {"BRIDGE_PORT": str(tcp.getsockname()[1]), "BRIDGE_UDP_PORT": str(udp.getsockname()[1])}
        code, found = await _examined(**numbers)
    assert code == 1
    assert [one["level"] for one in found["ports"]] == ["fault", "fault"]
    assert "(port) is not available" in found["ports"][0]["says"]
    assert "(udp_port) is not available" in found["ports"][1]["says"]


@pytest.fixture
def _few_files() -> Iterator[None]:
    """This process may have 4,096 open, as programs often may."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (4096, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, limits)


@pytest.mark.usefixtures("_few_files")
async def test_too_few_files() -> None:
    """For the calls that the settings let in."""
    code, found = await _examined("--max-calls", "1000000")
    assert (code, found["files"][0]["level"]) == (0, "warning")
    assert "LimitNOFILE=4000200" in found["files"][0]["advice"]


async def test_keys_of_upstreams() -> None:
    """A service that takes the key, that refuses it, that lists no models, and none; no key is in the report."""
    answers = {"/good/v1/models": (200, "{}"), "/bad/v1/models": (401, "{}"), "/sick/v1/models": (500, "")}
    async with _service(answers) as (address, asked):
        for name, level, words in (
            ("good", "ok", "accepts the key"),
            ("bad", "fault", "refuses the key (HTTP 401)"),
            ("sick", "fault", "HTTP 500"),
            ("other", "ok", "lists no models (HTTP 404)"),
        ):
            upstream = f"ws://{address}/{name}/v1/realtime?secret=hush"
            code, found = await _examined("--upstream", upstream, "--upstream-key", "hush-hush")
            assert (found["upstreams"][0]["level"], code) == (level, 1 if level == "fault" else 0)
            assert words in found["upstreams"][0]["says"]
            assert "hush" not in json.dumps(found)
        assert asked[0] == "GET /good/v1/models Bearer hush-hush"
    code, found = await _examined("--upstream", "ws://127.0.0.1:9/v1/realtime")
    assert (code, found["upstreams"][0]["level"]) == (1, "fault")
    assert "cannot be reached" in found["upstreams"][0]["says"]


async def test_stages_of_engines_are_tried_with_a_phrase(models: Local, tmp_path: Path) -> None:
    """Each says how soon it has answered, or why it has not; those of cascades too, and the same server once."""
    async with (
        ChatService.serving(say("Hello."), refuse(401, code="invalid_api_key", message="Wrong key.")) as chat,
        SpeechService.serving(models) as speech,
    ):
        speech.voices = ["marin", {"id": "cedar"}]
        path = tmp_path / "bridge.toml"
        path.write_text(f"""
            engine_llm_url = "{chat.url}"
            engine_llm_key = "hush-hush"
            engine_stt_url = "{speech.url}"
            engine_tts_url = "{speech.url}"
            [upstreams.other]
            kind = "cascade"
            llm_url = "{chat.url}"
            llm_model = "other"
            stt_url = "{speech.url}"
            tts_url = "http://127.0.0.1:9/v1"
            models = ["other"]
        """)
        code, found = await _examined("--config", str(path))
    ear, mind, voice, listed, *others = found["stages"]
    assert ear["says"].startswith("the ear of the engine understands 'Hello, please count to ")
    assert mind["says"].startswith("the mind of the engine says its first words after ")
    assert voice["says"].startswith("the voice of the engine sounds after ")
    assert listed["says"] == "the voice of the engine may be one of 2 that its server lists: marin, cedar"
    assert {one["level"] for one in (ear, mind, voice, listed)} <= {"ok", "warning"}  # a busy machine is slow
    assert [one["says"].split(" fails: ")[0] for one in others] == [
        "the mind of upstream other",
        "the voice of upstream other",
    ]
    assert (code, {one["level"] for one in others}) == (1, {"fault"})
    assert chat.keys[0] == "bearer hush-hush"
    assert "hush" not in json.dumps(found)


async def test_a_voice_that_its_server_does_not_list(models: Local) -> None:
    """A server may speak all the same; it is told which voices there are."""
    async with SpeechService.serving(models) as speech:
        speech.voices = [f"voice_{number}" for number in range(101)]
        _, found = await _examined("--engine-tts-url", speech.url, "--engine-tts-voice", "coral")
    voice, listed = found["stages"]
    assert voice["says"].startswith("the voice of the engine sounds after ")
    assert listed["level"] == "warning"
    assert "one of 101 that its server lists: voice_0, voice_1, " in listed["says"]
    assert listed["says"].endswith("voice_99, …; 'coral' is not among them")


async def test_keys_of_carriers() -> None:
    """Asked to end a call that nobody has: a refusal of the key is a fault, that there is no such call is well."""
    call = "/calls/1/calls/00000000-0000-0000-0000-000000000000/hangup"
    secrets = {"BRIDGE_INFOBIP_SECRET": "s", "BRIDGE_INFOBIP_API_KEY": "hush", "BRIDGE_EXOTEL_SECRET": "s"}
    for status, level in ((404, "ok"), (401, "fault"), (500, "warning")):
        async with _service({call: (status, "{}")}) as (address, asked):
            _, found = await _examined(BRIDGE_INFOBIP_URL=f"http://{address}", **secrets)
        by_carrier = {one["says"].split()[1].rstrip(":"): one for one in found["carriers"]}
        assert by_carrier["infobip"]["level"] == level
        assert by_carrier["exotel"]["level"] == "ok"
        assert asked == [f"POST {call} App hush"]
        assert "hush" not in json.dumps(found)


async def test_workers_that_serve_and_that_do_not(tmp_path: Path) -> None:
    """Their ports are looked at, the cores that they have, and how many of those that there should be serve."""
    given = {"BRIDGE_CLUSTER_SECRET": SECRET, "BRIDGE_API_KEY": _KEY}
    server = RunningRedis(free_port())
    async with server.serving():
        given["BRIDGE_REDIS_URL"] = server.url
        flags = ("--redis-url", server.url, "--cluster-secret", SECRET, "--workers", "1", "--drain-s", "0")
        async with serving(tmp_path / "log", *flags, BRIDGE_API_KEY=_KEY) as running:
            _, found = await _examined(running.url, BRIDGE_WORKERS="1", **given)
            assert [one["level"] for one in found["workers"]] == ["ok", "ok"], found["workers"]
            assert found["workers"][1]["says"] == "it serves"
            _, found = await _examined(running.url, BRIDGE_WORKERS="64", **given)
            assert [one["level"] for one in found["workers"]] == ["warning", "warning"], found["workers"]
            assert "64 workers, these do not serve: 1, 2, 3," in found["workers"][1]["says"]
        assert (
            len([one for one in found["ports"] if "(udp_port)" in one["says"] or "udp_port is 0" in one["says"]]) == 64
        )


async def test_redis_that_answers_and_that_does_not() -> None:
    """A cluster needs it; its password is in no report."""
    given = {"BRIDGE_CLUSTER_SECRET": SECRET, "BRIDGE_NODE_URL": "http://127.0.0.1:8080"}
    server = RunningRedis(free_port(), "--user", "bridge", "on", ">hush", "~*", "&*", "+@all")
    url = server.url.replace("//", "//bridge:hush@")
    async with server.serving():
        _, found = await _examined(BRIDGE_REDIS_URL=url, **given)
        assert found["redis"][0]["level"] == "ok", found
        _, found = await _examined(BRIDGE_REDIS_URL=url.replace("hush", "wrong-hush"), **given)
        assert found["redis"][0]["level"] == "fault"
        assert "hush" not in json.dumps(found)
    code, found = await _examined(BRIDGE_REDIS_URL=url, **given)
    assert (code, found["redis"][0]["level"]) == (1, "fault")
    assert "hush" not in json.dumps(found)


async def test_a_clock_that_is_wrong() -> None:
    """The server's ``Date`` against this machine's clock."""
    async with _service({"/healthz": (200, "ok")}, date="Thu, 01 Jan 2026 00:00:00 GMT") as (address, _):
        code, found = await _examined(f"http://{address}")
    assert code == 1
    assert found["clock"][0]["level"] == "fault"
    assert "behind this machine's" in found["clock"][0]["says"]


@pytest.mark.parametrize(("days", "level"), [(-1, "fault"), (3, "warning"), (300, "ok")])
async def test_how_long_the_certificate_is_valid(tmp_path: Path, days: int, level: str) -> None:
    """One that has expired is a fault, one that is about to is a warning."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "bridge.example")])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now - timedelta(days=400)).not_valid_after(now + timedelta(days=days))
    (tmp_path / "cert").write_bytes(builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM))
    secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (tmp_path / "key").write_bytes(secret)
    _, found = await _examined("--tls-cert", str(tmp_path / "cert"), "--tls-key", str(tmp_path / "key"))
    assert found["certificate"][0]["level"] == level


async def test_where_recordings_are_written(tmp_path: Path) -> None:
    """The directory's free space is told."""
    _, found = await _examined("--record-dir", str(tmp_path))
    assert "GB are free in" in found["disk"][0]["says"]
    _, found = await _examined("--record-dir", str(tmp_path / "nowhere"))
    assert (found["disk"][0]["level"], "there is no directory" in found["disk"][0]["says"]) == ("fault", True)


async def test_a_bridge_elsewhere_is_examined_alone(daemon: Serving) -> None:
    """The settings and limits of this machine are nothing to it, unless its file is named."""
    elsewhere = daemon.url.replace("127.0.0.1", "127.0.0.2")  # loopback, and not by its usual name
    _, found = await _examined(elsewhere, BRIDGE_API_KEY=_KEY)
    assert "files" not in found


def test_every_examination_has_a_name_and_a_meaning() -> None:
    """The documents list them."""
    names: list[Any] = [row.name for row in EXAMINATIONS]
    assert len({*names}) == len(names)
    assert all(row.meaning for row in EXAMINATIONS)
