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

__all__ = ["Served", "Wanted"]

_NICENESS = 10  # sound under way goes before thinking
_PARALLEL = 4  # answers at a time; more wait


class Wanted(Struct):
    """What to load and where to serve it."""

    path: str
    key: str
    port: int
    context_tokens: int


class Served(Struct):
    """Where it serves; or ``error``, why it does not."""

    url: str = ""
    error: str = ""


def _main() -> None:
    wanted = msgspec.json.decode(sys.stdin.buffer.readline(), type=Wanted)
    os.nice(_NICENESS)
    served = _serve(wanted)
    os.write(_OUT, msgspec.json.encode(served) + b"\n")
    if not served.error:
        sys.stdin.buffer.read()
    os._exit(1 if served.error else 0)  # its threads have nothing to tidy up


def _serve(wanted: Wanted) -> Served:
    import xllamacpp

    if not Path(wanted.path).is_file():
        return Served(error="there is no such file")
    settings = xllamacpp.CommonParams()
    settings.model.path = wanted.path
    settings.hostnames = ["127.0.0.1"]
    settings.port = wanted.port
    settings.api_keys = [wanted.key]
    settings.n_ctx = wanted.context_tokens
    settings.n_parallel = _PARALLEL
    settings.kv_unified = True
    settings.offline = True
    settings.ui = False
    settings.use_jinja = True
    settings.verbosity = 0
    try:
        server = xllamacpp.Server(settings)
    except (RuntimeError, ValueError) as error:
        return Served(error=str(error))
    _servers.append(server)
    return Served(url=server.listening_address)


_servers: list[Any] = []
"""The one that serves: it ends when nobody refers to it any more."""

if __name__ == "__main__":
    _OUT = os.dup(1)
    os.dup2(2, 1)  # llama.cpp writes to its standard output as well
    _main()
