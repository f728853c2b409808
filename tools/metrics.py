"""The metrics of a running daemon as a table, made from the code that counts them."""

import asyncio
import re

from prometheus_client import Histogram
from prometheus_client.core import Metric

from bridge.cluster.metrics import cluster_families
from bridge.observe import tracing
from bridge.observe.metrics import Metrics
from bridge.observe.recordings import families_of_recordings
from bridge.observe.webhooks import WebhookStats, families_of
from bridge.observe.worker_pages import worker_families
from bridge.session.session import Session
from bridge.wire.stats import DaemonStats, EndpointStats, RecordingsStats, TelephonyStats
from bridge.worker_group import WorkerGroup
from tools.schemas import cell

__all__ = ["metrics_table"]

_IDLE = DaemonStats(
    is_draining=False,
    is_overloaded=False,
    loop_lag_ms=0,
    kept_bytes=0,
    connections_refused=0,
    log_lines_dropped=0,
    endpoint=EndpointStats(peers=0, late_ticks=0, datagrams_dropped={}),
    telephony=TelephonyStats(refused={}, faults={}, late_ticks=0, hang_ups_failed=0),
    targets=[],
)
_OURS = re.compile("bridge_")


def metrics_table() -> str:
    """Name, type, labels and meaning of each metric of the bridge's own, by name."""
    metrics = Metrics(_no_call, lambda: _IDLE, carriers=["NAME"])
    metrics.sources.append(lambda: families_of(WebhookStats()))
    metrics.sources.append(lambda: families_of_recordings(RecordingsStats()))
    metrics.sources.append(lambda: tracing.families_of(0, 0))
    metrics.sources.append(lambda: cluster_families(nodes=1, is_up=True, asked=0, failures=0))
    metrics.sources.append(lambda: worker_families(WorkerGroup(0, 2, 0.0)))
    asyncio.run(metrics.collect_all())
    families = sorted((one for one in metrics.registry.collect() if _OURS.match(one.name)), key=lambda one: one.name)
    rows = [
        f"| `{_exported(one)}` | {one.type} | {_labels(metrics, one)} | {cell(one.documentation)} |" for one in families
    ]
    return "\n".join(["| metric | type | labels | meaning |", "|---|---|---|---|", *rows])


def _no_call(call_id: str) -> Session:
    raise LookupError(call_id)


def _exported(family: Metric) -> str:
    """The name as Prometheus has it."""
    return family.name + {"counter": "_total", "info": "_info"}.get(family.type, "")


def _labels(metrics: Metrics, family: Metric) -> str:
    made = metrics.registry._names_to_collectors.get(family.name)
    names = getattr(made if made is not None and made is not metrics else family, "_labelnames", ())
    if isinstance(made, Histogram):
        names = made._labelnames
    elif family.type == "info":
        names = ("version",)
    return ", ".join(f"`{name}`" for name in names)
