"""A small caller: makes one call to any Realtime server, for ``bridge call``, benchmarks and tests.

from bridge.client import Call, Plan
call = Call(Plan("http://127.0.0.1:8080", pcm=pcm))
summary = await call.run()      # the figures; the answer's sound is in call.answer.pcm

A name is imported when it is first used: a list of calls needs no sound and no WebRTC, and should show at once.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bridge.client.address import CallFailed
    from bridge.client.call import Call, Plan, Summary, Watcher
    from bridge.client.listening import HeardSound

__all__ = ["Call", "CallFailed", "HeardSound", "Plan", "Summary", "Watcher"]

_HOMES = {"CallFailed": "address", "HeardSound": "listening"}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES.get(name, 'call')}"), name)
