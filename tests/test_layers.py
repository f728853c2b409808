"""The walls between the rooms: who may import whom, and what the pure rooms may not touch."""

import ast
import graphlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

_PACKAGE = Path(__file__).parents[1] / "bridge"

_PURE = frozenset({"wire", "media"})
_TOP = frozenset({"burst", "config", "context", "log", "ports", "resume_window", "state_machine", "turns"})

# Of the HTTP server, what a carrier's endpoints are made of.
_SERVING = frozenset(f"api.{part}" for part in ("body", "gate", "keys", "listen", "operation", "secrets", "socket"))

# Each carrier's words and the checks of its sign-in: pure, so that its simulator may speak them too.
_DIALECT_FILES = [
    _PACKAGE / "telephony" / "dialect.py",
    _PACKAGE / "telephony" / "json_dialect.py",
    _PACKAGE / "telephony" / "jwt.py",
    _PACKAGE / "telephony" / "sign_in.py",
    *sorted((_PACKAGE / "telephony").glob("*/dialect.py")),
    *sorted((_PACKAGE / "telephony").glob("*/sign_in.py")),
]
_DIALECTS = frozenset(".".join(path.relative_to(_PACKAGE).with_suffix("").parts) for path in _DIALECT_FILES)

# Room -> what it may import besides itself and ``errors``.
ALLOWED: dict[str, frozenset[str]] = {
    "errors": frozenset(),
    "config": frozenset(),
    "log": frozenset(),
    "context": frozenset({"log"}),
    "worker_group": frozenset(),
    "resume_window": frozenset(),
    "state_machine": frozenset(),
    "burst": frozenset(),
    "turns": frozenset(),
    "ports": frozenset({"config"}),
    "service_manager": frozenset({"ports"}),
    "handover": frozenset({"log", "ports"}),
    "names": frozenset(),
    "outgoing": frozenset({"names"}),
    "outgoing_sockets": frozenset(),
    "sliced": frozenset({"turns"}),
    "wire": frozenset(),
    "media": frozenset({"wire"}),
    "session": _PURE | _TOP,
    "recording": _PURE | _TOP | {"session"},
    "webrtc": _PURE | _TOP,
    "players": _PURE | _TOP | {"session", "webrtc"},
    "live": _PURE | _TOP | {"session"},
    "calls": _PURE | _TOP | {"session", "webrtc", "recording", "players", "live"},
    "upstream": _PURE | _TOP | {"names", "outgoing", "outgoing_sockets", "sliced", "session", "webrtc", "calls"},
    "engine": _PURE | _TOP | {"names", "outgoing", "outgoing_sockets", "sliced", "session", "calls"},
    "api": _PURE | _TOP | {"calls"},
    "telephony": _PURE | _TOP | {"outgoing", "outgoing_sockets", "sliced", "calls"} | _SERVING,
    "cluster": _PURE
    | _TOP
    | {"outgoing", "outgoing_sockets", "session", "calls", "api.body", "api.operation", "api.socket"},
    "observe": _PURE | _TOP | {"worker_group", "names", "outgoing", "session", "calls", "api.operation"},
    "client": _PURE | {"webrtc"} | _DIALECTS,
}
ALLOWED["daemon"] = ALLOWED["reload"] = frozenset({*ALLOWED, "reload"}) - {"client"}
ALLOWED["doctor"] = frozenset({*ALLOWED}) - {"reload"}
ALLOWED["serve"] = _TOP | {"worker_group", "daemon", "handover", "service_manager"}
ALLOWED["supervisor"] = _TOP | {"worker_group", "daemon", "handover", "serve", "service_manager"}
ALLOWED["cli"] = frozenset(ALLOWED)
ALLOWED["__main__"] = frozenset({"cli"})

# Pure rooms take ``now`` and return values: no loop, no clock, no socket. ``wire`` deals in words, not in samples.
_IO = frozenset({"anyio", "asyncio", "selectors", "socket", "ssl", "threading", "time"})
FORBIDDEN: dict[str, frozenset[str]] = {"wire": _IO | {"av", "numpy"}, "media": _IO}

# Parts of a room that are purer than the room.
for _dialect in _DIALECTS:
    ALLOWED[_dialect] = frozenset({"wire"}) | _DIALECTS
    FORBIDDEN[_dialect] = FORBIDDEN["wire"]
ALLOWED["telephony.playout"] = _PURE | {"telephony.dialect"}
FORBIDDEN["telephony.playout"] = FORBIDDEN["media"]


def imports(source: str, module: str) -> Iterator[str]:
    """The dotted names that the source of ``module`` imports, ``from a import b`` as ``a.b``."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parents = module.split(".")[: -node.level] if node.level else []
            origin = ".".join([*parents, *([node.module] if node.module else [])])
            yield from (f"{origin}.{alias.name}" for alias in node.names)


def forbidden_arrows(source: str, module: str) -> list[str]:
    """What the source of ``module`` imports and may not."""
    part = module.partition(".")[2]
    room = part if part in ALLOWED else part.partition(".")[0]
    granted = ALLOWED.get(room, frozenset()) | {room, "errors", "__version__"}
    wrong = []
    for name in imports(source, module):
        top, _, inner = name.partition(".")
        if top == "bridge":
            is_allowed = any(f"{inner}.".startswith(f"{target}.") for target in granted)
        else:
            is_allowed = top not in FORBIDDEN.get(room, ())
        if not is_allowed:
            wrong.append(f"{module} imports {name}")
    return wrong


def _modules() -> Iterator[tuple[str, str]]:
    """Name and source of every module; a package's ``__init__`` keeps that name, for relative imports."""
    for path in sorted(_PACKAGE.rglob("*.py")):
        name = ".".join(("bridge", *path.relative_to(_PACKAGE).with_suffix("").parts))
        if name != "bridge.__init__":
            yield name, path.read_text()


def _require_no_circle(table: Mapping[str, frozenset[str]]) -> None:
    """Raises ``CycleError`` if a room may import, by whatever way, a room that may import it; parts count as rooms."""
    rooms: dict[str, set[str]] = {}
    for name, targets in table.items():
        room = name.partition(".")[0]
        rooms.setdefault(room, set()).update({target.partition(".")[0] for target in targets} - {room})
    graphlib.TopologicalSorter(rooms).prepare()


def test_rooms_depend_on_each_other_in_no_circle() -> None:
    """The table grants no two rooms each other: whatever is below can be tested and replaced without what is above."""
    _require_no_circle(ALLOWED)


def test_the_engine_and_the_upstreams_do_not_know_each_other() -> None:
    """Both stand on ``calls``, and the daemon alone, which puts them together, knows both."""
    assert "upstream" not in ALLOWED["engine"]
    assert "engine" not in ALLOWED["upstream"]
    assert "calls" in ALLOWED["engine"] & ALLOWED["upstream"]


def test_a_circle_of_rooms_is_seen() -> None:
    """It is found over any number of rooms, and if only a part of one is granted."""
    for wrong in ({"session": frozenset({"upstream.line"})}, {"wire": frozenset({"daemon"})}):
        with pytest.raises(graphlib.CycleError):
            _require_no_circle(ALLOWED | wrong)


def test_every_import_follows_the_table() -> None:
    """No module imports across a wall."""
    assert [arrow for name, source in _modules() for arrow in forbidden_arrows(source, name)] == []


def test_every_room_is_in_the_table() -> None:
    """A new room needs its row before its first import."""
    assert {name.split(".")[1] for name, _ in _modules()} <= ALLOWED.keys()


def test_a_forbidden_arrow_is_seen_in_every_spelling() -> None:
    """The reader of imports misses none of the ways to write one."""
    for source in (
        "import bridge.session",
        "import bridge.session.fanout.hub as hub",
        "from bridge import session",
        "from bridge.session.fanout.hub import Hub",
        "from ..session.fanout import hub",
        "def later():\n    from bridge.session.fanout import hub",
        "import time",
        "from asyncio import sleep",
    ):
        assert forbidden_arrows(source, "bridge.media.jitter"), source


def test_a_granted_arrow_passes() -> None:
    """Its own room, ``errors``, a granted room and a granted part of a room are open."""
    for source in (
        "from bridge.calls.service import CallService",
        "from bridge.api import gate",
        "from bridge.api.gate import Gate",
        "from bridge import __version__, errors",
        "from .leg import TelephonyLeg",
        "import asyncio",
    ):
        assert forbidden_arrows(source, "bridge.telephony.service") == [], source


def test_a_part_grants_no_more_than_itself() -> None:
    """``api.gate`` opens neither the room around it nor a name that only begins alike."""
    for source in ("from bridge import api", "from bridge.api import server", "import bridge.api.gate_two"):
        assert forbidden_arrows(source, "bridge.telephony.service"), source


def test_webrtc_knows_no_session() -> None:
    """A peer is a leg by the contracts of ``media``: no module of ``webrtc`` imports what plays around it."""
    granted = ALLOWED["webrtc"]
    assert granted <= _PURE | _TOP
    for source in ("from bridge.session.contracts import Upstream", "from bridge.calls import registry"):
        assert forbidden_arrows(source, "bridge.webrtc.peer"), source


def _imports_of_benchmarks() -> dict[str, set[str]]:
    """Each module of ``benchmarks``, and those of them that it imports, for the types alone as well."""
    folder = _PACKAGE.parent / "benchmarks"
    names = {
        ".".join(("benchmarks", *path.relative_to(folder).with_suffix("").parts)): path
        for path in folder.rglob("*.py")
        if path.name != "__init__.py"
    }
    return {
        name: {
            each
            for target in imports(path.read_text(), name)
            for each in (target, target.rpartition(".")[0])
            if each in names
        }
        for name, path in names.items()
    }


def test_benchmarks_import_each_other_in_no_circle() -> None:
    """No benchmark imports, by whatever way, a module that imports it."""
    graphlib.TopologicalSorter(_imports_of_benchmarks()).prepare()


def test_the_kit_knows_no_benchmark() -> None:
    """What is in ``benchmarks.kit`` imports nothing of ``benchmarks`` but itself."""
    of_kit = {name: found for name, found in _imports_of_benchmarks().items() if name.startswith("benchmarks.kit.")}
    assert len(of_kit) > 3
    assert {name: wrong for name, found in of_kit.items() if (wrong := found - of_kit.keys())} == {}


def test_programs_are_started_by_the_kit() -> None:
    """Only the kit starts daemons and helpers, and ``stages`` the profiler: every process has one kind of end."""
    folder = _PACKAGE.parent / "benchmarks"
    starters = {
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*.py")
        if "create_subprocess" in (text := path.read_text()) or "subprocess.Popen" in text
    }
    assert starters == {"kit/process.py", "stages.py"}


# Classes with more attributes, and why each is one thing that had better not be cut. What wires others together has few
# parts and one job; what has more is a thing that nobody can hold in mind.
ONE_THING = {
    "client.carriers.asterisk.AsteriskCarrier": "a simulator of a whole exchange",
    "media.inbound.InboundAudio": "an algorithm: the jitter buffer",
    "media.outbound.OutboundAudio": "an algorithm: the playout with its clock",
    "media.reports.Reports": "an algorithm: what reports say of one stream that is received",
    "observe.instruments.Instruments": "a table: each attribute is a metric",
    "telephony.playout.CarrierPlayout": "an algorithm: the playout with its marks",
}
_MAX_ATTRIBUTES = 15
_MAX_PUBLIC_METHODS = 20


def _classes() -> Iterator[tuple[str, ast.ClassDef]]:
    """Every class of the package, by its module and name."""
    for module, source in _modules():
        for node in ast.parse(source).body:
            if isinstance(node, ast.ClassDef):
                yield f"{module.removeprefix('bridge.')}.{node.name}", node


def _methods(node: ast.ClassDef) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    return [each for each in node.body if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef)]


def attributes_of(node: ast.ClassDef) -> set[str]:
    """What ``__init__`` sets of ``self``."""
    return {
        target.attr
        for method in _methods(node)
        if method.name == "__init__"
        for target in ast.walk(method)
        if isinstance(target, ast.Attribute) and isinstance(target.ctx, ast.Store)
        if isinstance(target.value, ast.Name) and target.value.id == "self"
    }


def public_methods_of(node: ast.ClassDef) -> set[str]:
    """Methods and properties without an underscore."""
    return {method.name for method in _methods(node) if not method.name.startswith("_")}


def test_no_class_wires_everything() -> None:
    """A class has at most 15 attributes and 20 public methods, unless it is one thing."""
    sizes = {name: (len(attributes_of(node)), len(public_methods_of(node))) for name, node in _classes()}
    too_big = {name for name, (attributes, _) in sizes.items() if attributes > _MAX_ATTRIBUTES}
    assert too_big == ONE_THING.keys()
    assert {name: methods for name, (_, methods) in sizes.items() if methods > _MAX_PUBLIC_METHODS} == {}


def test_attributes_and_methods_are_counted() -> None:
    """Several targets, annotations and parts of tuples count; what is read, or set of another thing, does not."""
    source = """
class Thing:
    size = 0
    def __init__(self, other):
        self.a, self._b = 1, 2
        self.c: int = self.d.e
        self.f = self.g = 3
        other.h = 4
    @property
    def shown(self): ...
    async def aclose(self): ...
    def _hidden(self):
        self.later = 5
"""
    (node,) = ast.parse(source).body
    assert isinstance(node, ast.ClassDef)
    assert attributes_of(node) == {"a", "_b", "c", "f", "g"}
    assert public_methods_of(node) == {"shown", "aclose"}
