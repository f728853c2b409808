"""A daemon that hears and speaks, sentences for it, and programs that run a framework in a Python of its own."""

import json
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import aioice.ice
import pytest

from bridge.daemon import Daemon
from bridge.engine.local import Local
from tests.processes import ROOT, clean_environ
from tests.sdk_js.node import API_KEY, FOLDER, Scenario, install, running, scenario
from tests.settings import config_for_tests

Run = Callable[..., AbstractAsyncContextManager[Scenario]]
"""``run(venv, program, scenario, **inputs)``: what a program of this folder observes, which runs in that venv."""

RunInNode = Callable[[str, str], AbstractAsyncContextManager[Scenario]]
"""``run_in_node(script, scenario)``: what a script of ``js/`` observes."""

_FOLDER = Path(__file__).parent
_JS = _FOLDER / "js"
_VENVS = ROOT / ".venv" / "frameworks"
_SENTENCES = {
    "weather": "What is the weather in Paris?",
    "count": "Please count to thirty.",
    "delegate": "Please delegate the task of booking a table.",
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything here is foreign and takes seconds."""
    for item in items:
        if item.path.is_relative_to(_FOLDER):
            item.add_marker(pytest.mark.foreign)
            item.add_marker(pytest.mark.timeout(60, func_only=True))


def python_of(venv: str) -> str:
    """The Python that has the packages of ``requirements/<venv>.txt``."""
    python = _VENVS / venv / "bin" / "python"
    if not python.exists():
        pytest.fail(f"needs {venv}'s packages: make {python.parents[1].relative_to(ROOT)}/installed")
    return str(python)


@pytest.fixture(scope="module")
def anyio_backend() -> tuple[str, dict[str, Any]]:
    """Once, on the loop that the daemon is served with."""
    return "asyncio", {"use_uvloop": True}


@pytest.fixture(autouse=True)
def _peers_use_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    """aiortc's candidates are of 127.0.0.1, which it would leave out."""
    monkeypatch.setattr(aioice.ice, "get_host_addresses", lambda use_ipv4, use_ipv6: ["127.0.0.1"])


@pytest.fixture
async def assistant(models: Local) -> AsyncIterator[Daemon]:
    """A daemon whose engine hears and speaks, and that wants ``API_KEY``."""
    config = config_for_tests(engine="local", api_key=(API_KEY,))
    async with Daemon(config, local=models) as serving:
        yield serving


@pytest.fixture(scope="session")
def sounds(tmp_path_factory: pytest.TempPathFactory, say: Callable[[str], bytes]) -> dict[str, str]:
    """Sentences that a program may say, and the silence that ends a turn: files of PCM16, 24 kHz, mono."""
    folder = tmp_path_factory.mktemp("sounds")
    said = {**{name: say(sentence) for name, sentence in _SENTENCES.items()}, "pause": bytes(2 * 24 * 1000)}
    for name, pcm in said.items():
        (folder / name).write_bytes(pcm)
    return {name: str(folder / name) for name in said}


@pytest.fixture
def run(assistant: Daemon, sounds: dict[str, str]) -> Run:
    """Runs a program that is told where the daemon is, its key, and what to say."""

    def run(venv: str, program: str, scenario: str, **inputs: Any) -> AbstractAsyncContextManager[Scenario]:
        told = {"url": assistant.url, "base_url": f"{assistant.url}v1", "key": API_KEY, "sounds": sounds, **inputs}
        command = (python_of(venv), "-m", f"tests.frameworks.{program}", json.dumps(told), scenario)
        return running(*command, environ=clean_environ(PYTHONDONTWRITEBYTECODE="1"), cwd=ROOT)

    return run


@pytest.fixture
def run_in_node(assistant: Daemon, sounds: dict[str, str]) -> RunInNode:
    """Runs a script that is told where the daemon is, its key, and what to say."""
    install(FOLDER)  # what the scripts of both folders share
    install(_JS)

    def run_in_node(script: str, name: str) -> AbstractAsyncContextManager[Scenario]:
        told: dict[str, Any] = {"base_url": f"{assistant.url}v1", "key": API_KEY, "sounds": sounds}
        return scenario(script, name, folder=_JS, **told)

    return run_in_node
