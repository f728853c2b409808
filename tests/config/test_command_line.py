"""The command line of ``bridge serve``: its help, and what it says of a mistake."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from bridge.cli import main
from bridge.config.fields import settings_of
from bridge.config.rooms import ROOMS
from tests.machine import scaled
from tests.processes import ROOT, clean_environ

_LIMIT_S = scaled(20.0)


def _complaint(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """The first line that the program ends with."""
    with pytest.raises(SystemExit) as ended:
        main(list(words))
    assert ended.value.code == 2
    told = capsys.readouterr().err
    assert told.count("\n") <= 2
    return told.partition("\n")[0]


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("srve",), "bridge: unknown command srve, did you mean serve?"),
        (("frobnicate",), "bridge: unknown command frobnicate"),
        (("serve", "--prot", "80"), "bridge serve: unknown flag --prot, did you mean --port?"),
        (("serve", "--max-cals=2"), "bridge serve: unknown flag --max-cals, did you mean --max-calls?"),
        (("serve", "--zzz"), "bridge serve: unknown flag --zzz"),
        (("serve", "--port"), "bridge serve: --port needs a value"),
        (("serve", "--log-format"), "bridge serve: --log-format needs a value: auto, console or json"),
        (("serve", "--record-calls"), "bridge serve: --record-calls needs a value: true or false"),
        (("serve", "--record-calls", "--port", "1"), "bridge serve: --record-calls needs a value: true or false"),
        (("call", "--txt", "hello"), "bridge call: unknown flag --txt, did you mean --text?"),
    ],
)
def test_a_mistake_is_told_with_what_was_probably_meant(
    words: tuple[str, ...], line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line that names what is unknown and what is close to it, without a page of usage."""
    assert _complaint(capsys, *words) == line


def test_a_flag_without_its_value_is_told_what_it_takes(capsys: pytest.CaptureFixture[str]) -> None:
    """Each that takes one of a few words, such as true or false, names them all."""
    few = {one.flag: one.words for one in settings_of(ROOMS).values() if one.words and not one.is_table}
    assert few["--record-calls"] == ("true", "false")
    for flag, words in few.items():
        told = _complaint(capsys, "serve", flag)
        assert re.findall(r"[^ ,]+", told.partition("needs a value: ")[2].replace(" or ", " ")) == list(words), told


def test_a_mistyped_variable_is_told(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """It would be left aside otherwise, and nobody would know why the setting does not count."""
    monkeypatch.setenv("BRIDGE_API_KYE", "sekrit")
    complaint = _complaint(capsys, "serve")
    assert complaint == "bridge: api_kye: unknown setting, did you mean api_key? (from environment BRIDGE_API_KYE)"


def test_help_is_grouped_by_room(capsys: pytest.CaptureFixture[str]) -> None:
    """Each room's settings stand together below what they are about, and the usage is one line."""
    with pytest.raises(SystemExit):
        main(["serve", "--help"])
    told = capsys.readouterr().out
    assert told.startswith("usage: bridge serve [--config FILE] [--replace] [--SETTING VALUE ...]\n\n")
    for room in ROOMS:
        _, found, rest = told.partition(f"\n{room.title}:\n")
        assert found, room.title
        group = re.split(r"\n\n", rest, maxsplit=1)[0]
        flags = [flag for flag in re.findall(r"^  (--[a-z-]+)", group, re.MULTILINE) if not flag.endswith("-file")]
        assert flags == [one.flag for one in settings_of([room]).values() if not one.is_table]


def test_a_wrong_setting_is_told_before_the_daemon_is_imported(tmp_path: Path) -> None:
    """A second of imports is not waited for to hear of a typing mistake."""
    source = (
        "import sys\nfrom bridge.cli import main\n"
        "try:\n    main(['serve', '--port', 'x'])\nfinally:\n    print(*sys.modules, file=sys.stdout)"
    )
    done = subprocess.run(
        [sys.executable, "-c", source],
        capture_output=True, text=True, cwd=ROOT, env=clean_environ() | {"PATH": os.environ["PATH"]}, timeout=_LIMIT_S,
    )  # fmt: skip
    assert "port: must be a whole number from 0 to 65535, got 'x' (from flag --port)" in done.stderr
    assert not {"bridge.daemon", "aiortc", "numpy"} & set(done.stdout.split())


def _settings(folder: Path, text: str) -> str:
    path = folder / "bridge.toml"
    path.write_text(text)
    return str(path)


def _run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    """The exit code, and what was printed and complained of."""
    with pytest.raises(SystemExit) as ended:
        main(list(words))
    told = capsys.readouterr()
    assert isinstance(ended.value.code, int)
    return ended.value.code, told.out, told.err


def test_a_file_that_is_fine_is_told_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The exit code is 0, and nothing is started."""
    path = _settings(tmp_path, "port = 80\n[log]\nlevel = 'warn'\n")
    assert _run(capsys, "config", "check", path) == (0, f"{path} is valid: 2 settings changed from the defaults.\n", "")


def test_a_file_is_checked_as_a_whole(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """All that is wrong is told, a line each, with an exit code that a script understands."""
    path = _settings(tmp_path, "port = 'x'\nmax_cals = 1\n[media]\nudp_port = -1\n")
    code, out, complaints = _run(capsys, "config", "check", path)
    assert (code, out) == (2, "")
    assert [line.split(":")[1].strip() for line in complaints.splitlines()] == ["port", "max_cals", "udp_port"]
    path = _settings(tmp_path, "host = '0.0.0.0'\nrecord_calls = true\n")
    _, _, complaints = _run(capsys, "config", "check", path)
    assert [line.split(":")[1].strip() for line in complaints.splitlines()] == ["host", "record_calls"]


def test_what_a_start_would_refuse_is_refused_by_a_check(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A profile that is not there, and a server whose address is none, are known to the upstreams only."""
    for text in ("upstream_profile = 'nope'", "upstream_ice_server = ['stun:']"):
        code, _, complaints = _run(capsys, "config", "check", _settings(tmp_path, text))
        assert code == 2
        assert complaints.startswith(f"bridge: {text.partition(' ')[0]}: ")


def test_a_check_sees_what_the_environment_adds(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file whose key comes from the environment is fine there, and Kubernetes' variables are told."""
    path = _settings(tmp_path, "host = '0.0.0.0'\n")
    assert _run(capsys, "config", "check", path)[0] == 2
    monkeypatch.setenv("BRIDGE_API_KEY", "sekrit")
    monkeypatch.setenv("BRIDGE_PORT", "tcp://10.43.7.9:8080")
    code, _, complaints = _run(capsys, "config", "check", path)
    assert (code, complaints) == (
        0,
        "bridge: BRIDGE_PORT comes from Kubernetes for a service called bridge, and is ignored\n",
    )


_SHOWN = """
    port = 9000
    upstream = "wss://a.example/v1/realtime?token=sekrit"
    asterisk_url = "ws://user:sekrit@pbx.example:8088/media"
    [telnyx]
    secret = ["sekrit", "sekrit-too"]
    [upstreams."q-w"]
    url = "wss://b.example/v1/realtime"
    key = "sekrit"
    models = ["a\\tb"]
"""


def test_settings_are_shown_with_their_sources(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each has its value and where it comes from; no secret is shown, not even one in a URL."""
    secret = tmp_path / "key"
    secret.write_text("sekrit\n")
    path = _settings(tmp_path, _SHOWN)
    monkeypatch.setenv("BRIDGE_API_KEY_FILE", str(secret))
    monkeypatch.setenv("BRIDGE_PORT", "9001")
    code, out, complaints = _run(capsys, "config", "show", "--config", path, "--log-level", "debug")
    assert (code, complaints) == (0, "")
    assert "sekrit" not in out
    lines = {line.partition(" =")[0]: re.sub(" {2,}", "  ", line) for line in out.splitlines()}
    assert lines["port"] == "port = 9001  # environment BRIDGE_PORT"
    assert lines["log_level"] == 'log_level = "debug"  # flag --log-level'
    assert lines["max_calls"] == "max_calls = 200  # default"
    assert lines["api_key"] == f'api_key = ["***"]  # file {secret}, environment BRIDGE_API_KEY_FILE'
    assert lines["telnyx_secret"] == f'telnyx_secret = ["***", "***"]  # file {path}'
    assert "# udp_port is unset  # default" in lines.values()


def test_what_is_shown_is_a_file_of_settings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It can be read again, and gives the same settings but for the secrets."""
    _, out, _ = _run(capsys, "config", "show", "--config", _settings(tmp_path, _SHOWN))
    again = tmp_path / "again.toml"
    again.write_text(out)
    _, once_more, _ = _run(capsys, "config", "show", "--config", str(again))
    values = [[line.partition("  #")[0] for line in text.splitlines()] for text in (out, once_more)]
    assert values[0] == values[1]
    assert 'models = ["a\\tb"]' in values[0]


def test_what_each_worker_has_of_its_own_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    """Ports, folder and address, as comments behind the settings that all have."""
    flags = ("--workers", "2", "--redis-url", "redis://h", "--cluster-secret", "s" * 16, "--record-dir", "/r")
    _, out, _ = _run(capsys, "config", "show", *flags, "--udp-port", "9000", "--node-url", "http://10.0.0.5:8090")
    assert out.splitlines()[-2:] == [
        '# worker 0: udp_port = 9000, record_dir = "/r/worker-0", node_url = "http://10.0.0.5:8090"',
        '# worker 1: udp_port = 9001, record_dir = "/r/worker-1", node_url = "http://10.0.0.5:8091"',
    ]


def test_settings_that_are_wrong_are_not_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What is wrong is told instead."""
    code, out, complaints = _run(capsys, "config", "show", "--config", _settings(tmp_path, "port = 'x'"))
    assert (code, out) == (2, "")
    assert complaints.startswith("bridge: port: must be a whole number")
