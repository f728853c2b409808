"""House rules that a linter does not know."""

import ast
import gc
import os
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.machine import scaled
from tools.reference import pages

_ROOT = Path(__file__).parents[1]
_LONGEST_FILE = 700
_MOST_SIGNATURES = 12

# A constructor by another name, what has to be opened, and a filter of a stream: every reader knows them.
STANDARD_NAMES = {"of", "open", "push"}

# These speak to a person, and print is how.
MAY_PRINT = {"bridge/cli.py"}

# Each ends them, however its test ends.
MAY_START_PROGRAMS = {"tests/processes.py", "tests/hostile/stage.py"}

# Names with an underscore that are public all the same.
_PUBLIC = frozenset({"_asdict", "_fields", "_replace"})

# File -> how often it reaches into what is another's. A number may only become smaller, and no file comes in: give the
# thing a public way to see what the test needs, or test its behaviour.
REACHES_INSIDE: dict[str, int] = {
    "tests/api/test_http.py": 4,
    "tests/api/test_media_lines.py": 1,
    "tests/api/test_patching.py": 5,
    "tests/api/test_refusals.py": 1,
    "tests/api/test_tls_listener.py": 1,
    "tests/cluster/test_shared.py": 1,
    "tests/end_to_end/one_way.py": 1,
    "tests/end_to_end/real_peer.py": 1,
    "tests/end_to_end/test_doctor.py": 1,
    "tests/end_to_end/test_endings.py": 1,
    "tests/end_to_end/test_examples.py": 2,
    "tests/end_to_end/test_fan_out.py": 4,
    "tests/end_to_end/test_whep.py": 2,
    "tests/engine/test_rule_responder.py": 4,
    "tests/fuzz/signalling.py": 2,
    "tests/observe/test_readiness.py": 4,
    "tests/observe/test_webhooks.py": 5,
    "tests/processes.py": 1,
    "tests/recording/test_leftovers.py": 1,
    "tests/recording/test_recorder.py": 2,
    "tests/session/test_memory.py": 1,
    "tests/session/test_replay.py": 1,
    "tests/telephony/audiohook/test_audiohook.py": 2,
    "tests/telephony/calling.py": 1,
    "tests/telephony/telnyx/test_hang_up.py": 2,
    "tests/telephony/test_incoming.py": 4,
    "tests/telephony/test_rest_hang_up.py": 4,
    "tests/telephony/test_vendor_sdks.py": 7,
    "tests/test_benchmark_loss.py": 1,
    "tests/test_operators.py": 1,
    "tests/webrtc/calling.py": 9,
    "tests/webrtc/ear.py": 4,
    "tests/webrtc/test_channels.py": 6,
    "tests/webrtc/test_dial.py": 3,
    "tests/webrtc/test_forwarding.py": 1,
    "tests/webrtc/test_guards.py": 18,
    "tests/webrtc/test_guards_rtp.py": 4,
    "tests/webrtc/test_peer.py": 12,
    "tests/webrtc/test_restart.py": 4,
    "tests/webrtc/test_rtcp_live.py": 2,
    "tests/webrtc/test_tcp.py": 1,
    "tests/webrtc/test_turns.py": 1,
}

# File -> why its task cannot live in a TaskGroup. A task that nobody awaits loses its exception and outlives its owner.
MAY_START_BARE_TASKS: dict[str, str] = {}


@cache
def _trees(*folders: str) -> tuple[tuple[str, ast.Module], ...]:
    paths = (path for folder in folders for path in sorted((_ROOT / folder).rglob("*.py")))
    return tuple((path.relative_to(_ROOT).as_posix(), _tree(path)) for path in paths)


@cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


@cache
def _calls(tree: ast.Module) -> tuple[ast.Call, ...]:
    return tuple(node for node in ast.walk(tree) if isinstance(node, ast.Call))


@pytest.fixture(scope="module", autouse=True)
def _each_file_is_parsed_once() -> Iterator[None]:
    """All rules share the trees; a million nodes are no garbage while the rules run, and go when they have."""
    gc.disable()
    _trees("bridge", "tests", "benchmarks")
    gc.freeze()
    gc.enable()
    yield
    for cached in (_trees, _tree, _calls):
        cached.cache_clear()


def _called(node: ast.expr) -> str:
    """What is called, as ``asyncio.wait_for``; a method of what another call returned is ``expect().to_be_visible``."""
    match node:
        case ast.Name(id=name):
            return name
        case ast.Attribute(value=owner, attr=name):
            return f"{_called(owner)}.{name}"
        case ast.Call(func=func):
            return f"{_called(func)}()"
    return "?"


def _is_bare_task(call: ast.Call) -> bool:
    """``asyncio.create_task`` or a loop's, under any import; a task group's is fine."""
    match call.func:
        case ast.Name(id="create_task" | "ensure_future"):
            return True
        case ast.Attribute(attr="create_task" | "ensure_future", value=owner):
            text = ast.unparse(owner)
            return text == "asyncio" or "loop" in text
    return False


def _defines_all(tree: ast.Module) -> bool:
    targets = [
        target
        for node in tree.body
        if isinstance(node, ast.Assign | ast.AnnAssign)
        for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
    ]
    return any(isinstance(target, ast.Name) and target.id == "__all__" for target in targets)


def _own_names(tree: ast.Module) -> set[str]:
    """What a file's own classes and functions define."""
    own = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            own.add(node.name)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            own |= {node.attr} if ast.unparse(node.value) == "self" else set()
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            own.add(node.id)
    return own


def _reaches_inside(tree: ast.Module) -> int:
    """How often a file reaches for a private name of something that it has not made: read, patched or imported."""
    own, count = _own_names(tree) | _PUBLIC, 0
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) not in ("self", "cls"):
            names = [node.attr]
        elif isinstance(node, ast.ImportFrom) and not (node.module or "").startswith("tests"):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("getattr", "setattr", "monkeypatch.setattr"):
            names = [str(each.value).rpartition(".")[2] for each in node.args if isinstance(each, ast.Constant)]
        count += sum(name.startswith("_") and not name.startswith("__") and name not in own for name in names)
    return count


def test_no_test_reaches_inside() -> None:
    """Tests see what a thing shows: so it can be built anew without touching them. No more of the old sins come in."""
    found = {name: count for name, tree in _trees("tests") if (count := _reaches_inside(tree))}
    assert {name: count for name, count in found.items() if count > REACHES_INSIDE.get(name, 0)} == {}


def test_reaching_inside_is_seen_in_every_spelling() -> None:
    """Attributes, patches and imports count; what a file defines itself does not."""
    source = """
from bridge.cli import _parser
class Fake:
    def __init__(self):
        self._mine = 1
def test(fake, thing, monkeypatch):
    thing._hidden, thing.inner._hidden, fake._mine, thing._replace()
    monkeypatch.setattr(module, "_LIMIT_S", 1)
    monkeypatch.setattr("bridge.module._LIMIT_S", 1)
"""
    assert _reaches_inside(ast.parse(source)) == 5


def test_every_module_says_what_it_is() -> None:
    """Each module opens with a docstring."""
    assert [name for name, tree in _trees("bridge", "tests", "benchmarks") if not ast.get_docstring(tree)] == []


def test_every_module_states_its_public_names() -> None:
    """Each module with any code in it has ``__all__``."""
    assert [name for name, tree in _trees("bridge") if len(tree.body) > 1 and not _defines_all(tree)] == []


def test_no_public_class_name_stands_twice() -> None:
    """Who reads or searches for a name finds one thing."""
    named: dict[str, list[str]] = {}
    for name, tree in _trees("bridge"):
        for node in tree.body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                named.setdefault(node.name, []).append(str(name))
    assert {name: places for name, places in named.items() if len(places) > 1} == {}


def test_no_public_method_name_stands_for_many_things() -> None:
    """Who searches for a name finds few other things. Methods of one signature count once, as one contract has them."""
    named: dict[str, set[str]] = {}
    for _, tree in _trees("bridge"):
        for owner in ast.walk(tree):
            for node in owner.body if isinstance(owner, ast.ClassDef) else ():
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not node.name.startswith("_"):
                    named.setdefault(node.name, set()).add(ast.unparse(node.args))
    many = {name: len(ways) for name, ways in named.items() if len(ways) > _MOST_SIGNATURES}
    assert {name: number for name, number in many.items() if name not in STANDARD_NAMES} == {}


def test_only_the_command_line_prints() -> None:
    """A daemon's output is its log."""
    prints = [
        f"{name}:{call.lineno}"
        for name, tree in _trees("bridge")
        if name not in MAY_PRINT
        for call in _calls(tree)
        if isinstance(call.func, ast.Name) and call.func.id == "print"
    ]
    assert prints == []


def test_no_logger_keeps_a_level() -> None:
    """What ``bind`` gives never hears of another level; ``get_logger`` and a call's ``logger`` take keys instead."""
    bound = [
        f"{name}:{call.lineno}"
        for name, tree in _trees("bridge")
        for call in _calls(tree)
        if isinstance(call.func, ast.Attribute) and call.func.attr in ("bind", "new") and call.keywords
    ]
    assert bound == []


def test_every_task_has_an_owner() -> None:
    """Tasks live in a TaskGroup, but for those listed with a reason."""
    bare = [
        f"{name}:{call.lineno}"
        for name, tree in _trees("bridge")
        if name not in MAY_START_BARE_TASKS
        for call in _calls(tree)
        if _is_bare_task(call)
    ]
    assert bare == []


def test_a_bare_task_is_told_from_an_owned_one() -> None:
    """The rule above sees each spelling of a bare task, and lets a task group's pass."""

    def sees(source: str) -> bool:
        return any(map(_is_bare_task, _calls(ast.parse(source))))

    assert all(map(sees, ("asyncio.create_task(f())", "self._loop.create_task(f())", "ensure_future(f())")))
    assert all(map(sees, ("asyncio.get_running_loop().create_task(f())", "create_task(f())")))
    assert not any(map(sees, ("group.create_task(f())", "self._tasks.create_task(f())")))


def _is_bare_limit(call: ast.Call) -> bool:
    """A wait in a test that is given a number of seconds."""
    name = _called(call.func)
    limits = [keyword.value for keyword in call.keywords if keyword.arg == "timeout"]
    limits += {"asyncio.timeout": call.args[:1], "asyncio.wait_for": call.args[1:2]}.get(name, [])
    is_wait = name.startswith(("asyncio.", "subprocess.", "expect("))
    return is_wait and any(isinstance(limit, ast.Constant) for limit in limits)


def test_every_wait_of_a_test_is_as_long_as_the_machine_is_slow() -> None:
    """A limit in seconds is written ``scaled(seconds)``, in its place or as a constant of the module."""
    bare = [f"{name}:{call.lineno}" for name, tree in _trees("tests") for call in _calls(tree) if _is_bare_limit(call)]
    constants = [
        f"{name}:{node.lineno}"
        for name, tree in _trees("tests")
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
        if isinstance(node.targets[0], ast.Name) and node.targets[0].id.endswith(("LIMIT_S", "WITHIN_S"))
        if name != "tests/conftest.py"
    ]
    assert bare + constants == []


def test_every_program_of_a_test_has_an_end() -> None:
    """Programs are started by a few modules alone, which end them also if their test is stopped."""
    starters = ("asyncio.create_subprocess_exec", "asyncio.create_subprocess_shell", "subprocess.Popen")
    bare = [
        f"{name}:{call.lineno}"
        for name, tree in _trees("tests")
        if name not in MAY_START_PROGRAMS
        for call in _calls(tree)
        if _called(call.func) in starters
    ]
    assert bare == []


def test_every_file_is_readable_in_one_go() -> None:
    """No file is longer than 700 lines."""
    files = [path for folder in ("bridge", "tests", "benchmarks") for path in (_ROOT / folder).rglob("*.py")]
    lengths = {path.relative_to(_ROOT).as_posix(): len(path.read_text().splitlines()) for path in files}
    assert {name: length for name, length in lengths.items() if length > _LONGEST_FILE} == {}


def test_every_test_states_its_behaviour() -> None:
    """Each test function has a docstring."""
    silent = [
        f"{name}:{node.lineno} {node.name}"
        for name, tree in _trees("tests")
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.name.startswith("test_")
        and not ast.get_docstring(node)
    ]
    assert silent == []


@pytest.mark.long
def test_generated_pages_are_those_of_the_code() -> None:
    """What ``docs`` says of settings, errors, events and the log is what the code says now: ``make reference``."""
    stale = [path.relative_to(_ROOT).as_posix() for path, text in pages().items() if path.read_text() != text]
    assert stale == [], "made anew by python -m tools.reference"


def _complaints_of_make(makefile: Path) -> str:
    """What make says of a Makefile that it reads without running anything, however these tests were started."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    command = ["make", "-n", "-f", str(makefile), "help"]
    ran = subprocess.run(
        command, cwd=_ROOT, env=environ, capture_output=True, text=True, timeout=scaled(30), check=True
    )
    return ran.stderr


def test_the_makefile_defines_each_target_once() -> None:
    """Of two recipes for one target, make takes the later one and only warns."""
    assert _complaints_of_make(_ROOT / "Makefile") == ""


def test_a_target_that_stands_twice_is_seen(tmp_path: Path) -> None:
    """The rule above hears make's warning."""
    makefile = tmp_path / "Makefile"
    makefile.write_text("help:\n\t@echo one\nhelp:\n\t@echo two\n")
    assert "help" in _complaints_of_make(makefile)
