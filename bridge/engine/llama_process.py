"""The process in which llama.cpp thinks, at a low priority: ``python -m bridge.engine.llama_process``.

One line of JSON on its standard input says what to load; one line on its standard output says where it serves, or what
is wrong. It ends when its standard input does, however its parent ends.
"""

import os
import sys
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

__all__ = ["LlamaResult", "LlamaSettings"]

_NICENESS = 10  # sound under way goes before thinking
_PARALLEL = 4  # answers at a time; more wait


class LlamaSettings(Struct):
    """What to load and where to serve it."""

    path: str
    key: str
    port: int
    context_tokens: int


class LlamaResult(Struct):
    """Where it serves; or ``error``, why it does not."""

    url: str = ""
    error: str = ""


def _main() -> None:
    settings = msgspec.json.decode(sys.stdin.buffer.readline(), type=LlamaSettings)
    os.nice(_NICENESS)
    result = _serve(settings)
    os.write(_OUT, msgspec.json.encode(result) + b"\n")
    if not result.error:
        sys.stdin.buffer.read()
    os._exit(1 if result.error else 0)  # its threads have nothing to tidy up


def _serve(settings: LlamaSettings) -> LlamaResult:
    import xllamacpp

    if not Path(settings.path).is_file():
        return LlamaResult(error="there is no such file")
    params = xllamacpp.CommonParams()
    params.model.path = settings.path
    params.hostnames = ["127.0.0.1"]
    params.port = settings.port
    params.api_keys = [settings.key]
    params.n_ctx = settings.context_tokens
    params.n_parallel = _PARALLEL
    params.kv_unified = True
    params.offline = True
    params.ui = False
    params.use_jinja = True
    params.verbosity = 0
    try:
        server = xllamacpp.Server(params)
    except (RuntimeError, ValueError) as error:
        return LlamaResult(error=str(error))
    _servers.append(server)
    return LlamaResult(url=server.listening_address)


_servers: list[Any] = []
"""The one that serves: it ends when nobody refers to it any more."""

if __name__ == "__main__":
    _OUT = os.dup(1)
    os.dup2(2, 1)  # llama.cpp writes to its standard output as well
    _main()
