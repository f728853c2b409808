"""The command ``bridge bench``: makes many calls at once to any Realtime server, and measures how it bears them.

from bridge.client import Plan
from bridge.client.bench import Bench, Load
bench = Bench(Plan("http://127.0.0.1:8080", pcm=pcm), Load(calls=20))
await bench.run()
report = bench.report()         # the figures; those of each call are in ``bench.records``
"""

from bridge.client.bench.load import Bench, Load, run_side_by_side
from bridge.client.bench.network import Network
from bridge.client.bench.record import BenchRecord, Failure, Turn
from bridge.client.bench.report import Report

__all__ = ["Bench", "BenchRecord", "Failure", "Load", "Network", "Report", "Turn", "run_side_by_side"]
