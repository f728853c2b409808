"""A small caller: makes one call to any Realtime server, for ``bridge call``, benchmarks and tests.

from bridge.client import Call, Plan
call = Call(Plan("http://127.0.0.1:8080", pcm=pcm))
summary = await call.run()      # figures; the answer's sound is in call.answer.pcm
"""

from bridge.client.address import CallFailed
from bridge.client.call import Call, Plan, Summary, Watcher
from bridge.client.listening import HeardSound

__all__ = ["Call", "CallFailed", "HeardSound", "Plan", "Summary", "Watcher"]
