"""Which engine answers, and the models that it needs."""

import importlib.util
from collections.abc import Callable
from importlib.machinery import ModuleSpec

import pytest

from bridge.config import Config
from bridge.daemon import Daemon
from bridge.engine.local import Local, missing
from bridge.errors import ConfigError
from tests.settings import config_for_tests


@pytest.fixture
def _no_voice(monkeypatch: pytest.MonkeyPatch) -> None:
    """The package with the voice is not installed."""
    find: Callable[[str], ModuleSpec | None] = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "hibari" else find(name))


def _config(engine: str) -> Config:
    return config_for_tests(engine=engine)


def test_the_extra_is_found() -> None:
    """With everything installed nothing is missing."""
    assert missing() == []


async def test_the_best_engine_that_there_is_answers(models: Local) -> None:
    """``auto`` is ``local`` where its packages are installed."""
    async with Daemon(_config("auto"), local=models) as daemon:
        assert daemon.engine == "local"
    async with Daemon(_config("parrot"), local=models) as daemon:
        assert daemon.engine == "parrot"


@pytest.mark.usefixtures("_no_voice")
async def test_without_the_extra_it_is_the_parrot() -> None:
    """A plain installation serves too, and says what it would need where more is asked of it."""
    async with Daemon(_config("auto")) as daemon:
        assert daemon.engine == "parrot"
    with pytest.raises(ConfigError, match=r"engine: local needs hibari: pip install '\.\[local\]'"):
        async with Daemon(_config("local")):
            pass


async def test_models_that_cannot_be_loaded_stop_the_start(tmp_path: object) -> None:
    """A wrong folder is one line that names the setting, and leaves no thread behind."""
    local = Local(whisper=str(tmp_path))
    with pytest.raises(ConfigError, match="engine_whisper"):
        async with local:
            pass
