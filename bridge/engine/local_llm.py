"""A language model in a GGUF file, which llama.cpp runs in a process of its own: nothing leaves this machine.

The process serves chat completions on loopback, with a key that nobody else has. If it dies, it is started again at the
same port; answers that are asked for meanwhile fail as those of any other server that is gone.
"""

import asyncio
import importlib.util
import secrets
import sys
from urllib.parse import urlsplit

import msgspec

from bridge.engine.llama_process import LlamaResult, LlamaSettings
from bridge.errors import ConfigError
from bridge.log import get_logger

__all__ = ["LocalLlm"]

_log = get_logger("engine")

_PACKAGE = "xllamacpp"
_LOAD_S = 300.0  # a large file on a slow disk
_END_S = 5.0
_AGAIN_S, _MOST_AGAIN_S = 1.0, 60.0
_CONTEXT_TOKENS = 8192
_PARAM = "engine_llm_path"


class LocalLlm:
    """One loaded model; ``async with`` owns its process."""

    def __init__(self, path: str) -> None:
        self._path = path
        self.key = secrets.token_urlsafe(24)
        """The key that it asks for."""
        self.url = ""
        """The base URL of its chat completions, once it is loaded."""
        self._process: asyncio.subprocess.Process | None = None
        self._tasks = asyncio.TaskGroup()
        self._watching: asyncio.Task[None] | None = None

    @property
    def process(self) -> asyncio.subprocess.Process | None:
        """The process that serves the model now, or has died a moment ago; None before the start."""
        return self._process

    async def __aenter__(self) -> "LocalLlm":
        if importlib.util.find_spec(_PACKAGE) is None:
            raise ConfigError(f"{_PARAM}: needs {_PACKAGE}: pip install '.[llm]'", param=_PARAM)
        try:
            result = await self._start(0)
        except BaseException:
            await self._end()
            raise
        self.url = f"{result.url}/v1"
        await self._tasks.__aenter__()
        self._watching = self._tasks.create_task(self._watch(urlsplit(result.url).port or 0))
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        if self._watching is not None:
            self._watching.cancel()
            await self._tasks.__aexit__(None, None, None)
        await self._end()

    async def _start(self, port: int) -> LlamaResult:
        process = self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "bridge.engine.llama_process",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        settings = LlamaSettings(path=self._path, key=self.key, port=port, context_tokens=_CONTEXT_TOKENS)
        process.stdin.write(msgspec.json.encode(settings) + b"\n")
        try:
            async with asyncio.timeout(_LOAD_S):
                line = await process.stdout.readline()
        except TimeoutError:
            line = b""
        try:
            result = msgspec.json.decode(line, type=LlamaResult)
        except msgspec.DecodeError:  # it has said nothing, or not all of it
            result = LlamaResult(error="llama.cpp ended while it was loading")
        if result.error:
            raise ConfigError(f"{_PARAM}: {self._path} cannot be loaded: {result.error}", param=_PARAM)
        return result

    async def _watch(self, port: int) -> None:
        """Starts the process again whenever it has died."""
        wait_s = _AGAIN_S
        while True:
            assert self._process is not None
            status = await self._process.wait()
            _log.error("engine.llm_ended", status=status)
            await asyncio.sleep(wait_s)
            try:
                await self._start(port)
            except (ConfigError, OSError) as error:  # also if no memory or no descriptor is left for a process
                problem = error.message if isinstance(error, ConfigError) else error.strerror or str(error)
                _log.error("engine.llm_not_restarted", problem=problem)
                await self._end()
                wait_s = min(2 * wait_s, _MOST_AGAIN_S)
            else:
                wait_s = _AGAIN_S
                _log.info("engine.llm_restarted")

    async def _end(self) -> None:
        """Ends the process, within bounded time."""
        process = self._process
        if process is None:
            return
        if process.stdin is not None:
            process.stdin.close()
        try:
            async with asyncio.timeout(_END_S):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()
