"""``locks/``: what ``make`` installs, to the hash, on every Python and system that the package supports."""

import re
import subprocess
import tomllib
from collections.abc import Iterator
from importlib.metadata import distribution
from typing import NamedTuple

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from tests.machine import scaled
from tests.processes import ROOT

_LIMIT_S = scaled(20.0)
_PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
_ENVIRONMENTS = [
    {"python_version": python, "python_full_version": f"{python}.{patch}", "sys_platform": system.lower()}
    | {"platform_system": system, "platform_machine": machine, "os_name": "posix"}
    for python, patch in (("3.11", 0), ("3.11", 14), ("3.12", 3), ("3.13", 1))
    for system, machine in (("Linux", "x86_64"), ("Linux", "aarch64"), ("Darwin", "arm64"))
]
_EXTRAS = {"install": [], "local": ["local"], "test": ["test"]}
_ENTRY = re.compile(r"([a-z0-9-]+)==(\S+)(?: ; ([^-]+))?((?: --hash=sha256:[0-9a-f]{64})+)")


class _Pin(NamedTuple):
    version: Version
    hashes: frozenset[str]


def _lock(name: str) -> dict[str, _Pin]:
    """A lock's packages; fails at a line that is no comment and anything but a name, version, marker and hashes."""
    text = (ROOT / "locks" / f"{name}.txt").read_text()
    pins = {}
    for entry in re.sub(r" \\\n +", " ", text).splitlines():
        if not entry or entry.startswith("# "):
            continue
        match = _ENTRY.fullmatch(entry)
        assert match is not None, f"locks/{name}.txt: {entry!r}"
        pins[match[1]] = _Pin(Version(match[2]), frozenset(re.findall(r"sha256:([0-9a-f]+)", match[4])))
    return pins


def _roots(extras: list[str]) -> list[Requirement]:
    """What ``pip install .[extras]`` asks for, build tools included."""
    texts = [*_PROJECT["build-system"]["requires"], *_PROJECT["project"]["dependencies"]]
    for extra in extras:
        texts += _PROJECT["project"]["optional-dependencies"][extra]
    ours = _PROJECT["project"]["name"]
    roots = [Requirement(text) for text in texts]
    for root in [root for root in roots if root.name == ours]:
        roots.remove(root)
        roots += _roots(sorted(root.extras))
    return roots


def _wanted(requirement: Requirement, environment: dict[str, str], seen: set[str]) -> Iterator[Requirement]:
    """A requirement and all that it requires in turn in an environment, by the metadata of what is installed."""
    yield requirement
    extras = requirement.extras or {""}
    if (key := f"{canonicalize_name(requirement.name)}[{sorted(extras)}]") in seen:
        return
    seen.add(key)
    for text in distribution(requirement.name).requires or []:
        further = Requirement(text)
        marker = further.marker
        if marker is None or any(marker.evaluate({**environment, "extra": extra}) for extra in extras):
            yield from _wanted(further, environment, seen)


@pytest.mark.parametrize("name", _EXTRAS)
def test_a_lock_satisfies_the_ranges_of_the_package(name: str) -> None:
    """Every dependency of pyproject.toml is locked, in its range; if not: ``make lock``."""
    pins = _lock(name)
    wrong = [
        str(root)
        for root in _roots(_EXTRAS[name])
        if (pin := pins.get(canonicalize_name(root.name))) is None or pin.version not in root.specifier
    ]
    assert wrong == []


@pytest.mark.parametrize("name", _EXTRAS)
def test_a_lock_is_whole_on_every_python_and_system(name: str) -> None:
    """What the locked packages require on any supported Python, on Linux and on macOS, is locked too, in its range."""
    pins = _lock(name)
    missing = set()
    for environment in _ENVIRONMENTS:
        whole = {key: str(value) for key, value in default_environment().items()} | environment
        seen: set[str] = set()
        for root in _roots(_EXTRAS[name]):
            if root.marker is not None and not root.marker.evaluate(whole):
                continue
            for wanted in _wanted(root, whole, seen):
                pin = pins.get(canonicalize_name(wanted.name))
                if pin is None or pin.version not in wanted.specifier:
                    missing.add(f"{wanted} on {environment['sys_platform']}, Python {environment['python_version']}")
    assert missing == set()


def test_the_locks_agree() -> None:
    """``install`` is a part of ``local``, and that of ``test``: to go from one to the next changes no version."""
    install, local, test = map(_lock, ("install", "local", "test"))
    assert install.items() < local.items() < test.items()


def test_the_locks_name_no_place() -> None:
    """A lock holds names, versions and hashes; where packages come from is the business of who installs."""
    texts = [path.read_text() for path in (ROOT / "locks").iterdir()]
    assert len(texts) == len(_EXTRAS)
    assert [text for text in texts if "//" in text or "index" in text] == []


def test_compiled_packages_have_wheels_for_each_python() -> None:
    """A package with compiled code is locked with the hashes of many wheels, not of this machine's alone."""
    pins = _lock("install")
    assert all(len(pins[name].hashes) > 20 for name in ("httptools", "msgspec", "numpy", "uvloop", "websockets"))


@pytest.mark.parametrize(("target", "name"), [("installed", "install"), ("speaking", "local"), ("testable", "test")])
def test_make_installs_what_is_locked(target: str, name: str) -> None:
    """``make`` installs dependencies by their hashes, and the package itself without looking for any."""
    done = subprocess.run(
        ["make", "--dry-run", "--always-make", f".venv/{target}"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=_LIMIT_S,
    )
    commands = " ".join(done.stdout.replace("\\\n", " ").split())
    assert done.returncode == 0, done.stderr
    assert f"install --require-hashes --requirement locks/{name}.txt" in commands
    assert "install --no-deps --no-build-isolation --editable ." in commands
