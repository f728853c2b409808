"""A language model in a file, run by llama.cpp: in the engine, as a server of its own, and when it dies."""

import asyncio
import errno
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from bridge.config import NamedUpstream
from bridge.daemon import Daemon
from bridge.engine.llm import ChatServer
from bridge.engine.llm_responder import LlmResponder
from bridge.engine.local_llm import LocalLlm
from bridge.errors import ConfigError
from tests.end_to_end.web import open_socket
from tests.engine.small_llm import write_llm
from tests.engine.talk import Talk
from tests.machine import scaled
from tests.settings import config_for_tests

pytestmark = [pytest.mark.slow, pytest.mark.timeout(60, func_only=True)]

_SENTENCE = "It is sunny in Oslo today."
_LIMIT_S = scaled(30.0)


@pytest.fixture(scope="module")
def anyio_backend() -> tuple[str, dict[str, Any]]:
    """Once, on the loop that the daemon is served with."""
    return "asyncio", {"use_uvloop": True}


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The file of a small model."""
    return write_llm(tmp_path_factory.mktemp("llm") / "small.gguf", _SENTENCE)


async def _ask(socket: Any, number: int = 1) -> dict[str, Any]:
    content = [{"type": "input_text", "text": "What is the weather?"}]
    item = {"type": "message", "role": "user", "content": content}
    await socket.send({"type": "conversation.item.create", "item": item})
    await socket.send({"type": "response.create", "response": {"output_modalities": ["text"]}})
    done = await socket.until("response.done", number=number)
    response: dict[str, Any] = done["response"]
    return response


async def test_the_engine_thinks_with_a_file(path: str) -> None:
    """By the usual engine and by a cascade; it says words as they come, and tokens are counted by the model's own."""
    cascade = NamedUpstream(kind="cascade", llm_path=path, models=("small",))
    settings = config_for_tests(engine_llm_path=path, upstreams={"small": cascade})
    async with asyncio.timeout(_LIMIT_S), Daemon(settings) as daemon:
        for model in ("any", "small"):
            async with open_socket(daemon.url, f"model={model}") as client:
                response = await _ask(client)
                assert response["status"] == "completed"
                assert response["output"][0]["content"][0]["text"].strip() == _SENTENCE
                pieces = [event["delta"] for event in client.of("response.output_text.delta")]
                assert len(pieces) > 1  # words that come together are one piece
                assert "".join(pieces).strip() == _SENTENCE
                assert response["usage"]["output_tokens"] == 7
                assert response["usage"]["input_tokens"] > 20


async def test_it_is_a_server_for_whoever_has_its_key(path: str) -> None:
    """llama.cpp's own server behind a URL; without the key it refuses, and says so."""
    async with asyncio.timeout(_LIMIT_S), LocalLlm(path) as loaded:
        for key, status in ((loaded.key, "completed"), ("wrong", "failed")):
            async with ChatServer(loaded.url, key=key, model="small", tries=1) as server:
                talk = Talk(LlmResponder(server, ears=None, voice=None), output_modalities=["text"])
                talk.type("Hello")
                talk.send("response.create")
                assert (await talk.answer())["status"] == status
                await talk.engine.aclose()


async def test_it_is_started_again_if_it_dies(path: str) -> None:
    """At the same address; answers before that fail with an error."""
    async with asyncio.timeout(_LIMIT_S), LocalLlm(path) as loaded:
        assert loaded.process is not None
        first = loaded.process
        os.kill(first.pid, signal.SIGKILL)
        await first.wait()
        async with ChatServer(loaded.url, key=loaded.key, tries=1, timeout_s=_LIMIT_S) as server:
            talk = Talk(LlmResponder(server, ears=None, voice=None), output_modalities=["text"])
            number = 0
            while not number or talk.said.of_type("response.done")[-1]["response"]["status"] == "failed":
                talk.type("Hello")
                talk.send("response.create")
                number += 1
                await talk.answer(number)
                await asyncio.sleep(0.2)
            assert number > 1
            await talk.engine.aclose()


async def test_a_machine_that_starts_no_process_ends_nothing_else(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """If no descriptor is left when it is to be started again, that is tried once more, and the bridge lives."""
    start, tries, is_started = asyncio.create_subprocess_exec, 0, asyncio.Event()

    async def fails_first(*words: Any, **given: Any) -> asyncio.subprocess.Process:
        nonlocal tries
        tries += 1
        if tries == 1:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        process = await start(*words, **given)
        is_started.set()
        return process

    async with asyncio.timeout(_LIMIT_S), LocalLlm(path) as loaded:
        assert loaded.process is not None
        monkeypatch.setattr(asyncio, "create_subprocess_exec", fails_first)
        os.kill(loaded.process.pid, signal.SIGKILL)
        await is_started.wait()
        assert tries == 2
        assert loaded.process.returncode is None


async def test_it_ends_with_the_bridge(path: str) -> None:
    """No process is left behind."""
    async with LocalLlm(path) as loaded:
        process = loaded.process
    assert process is not None
    assert process.returncode == 0


@pytest.mark.parametrize("content", [None, b"no model"])
async def test_what_is_no_model_is_refused_at_the_start(tmp_path: Path, content: bytes | None) -> None:
    """By an error that names the setting."""
    file = tmp_path / "none.gguf"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ConfigError, match="cannot be loaded") as caught:
        async with LocalLlm(str(file)):
            pass
    assert caught.value.param == "engine_llm_path"
