"""What a page of metrics says, as figures by name and labels."""

from prometheus_client.parser import text_string_to_metric_families

from bridge.observe.metrics import Metrics
from bridge.wire.stats import DaemonStats, EndpointStats, TargetStats, TelephonyStats

__all__ = ["DAEMON", "Figures", "figures_of", "read"]

Figures = dict[str, dict[tuple[str, ...], float]]
"""Sample name -> values of its labels, in the order of the labels' names -> value."""

DAEMON = DaemonStats(
    is_draining=False,
    is_overloaded=True,
    loop_lag_ms=12.0,
    kept_bytes=7,
    connections_refused=3,
    log_lines_dropped=4,
    endpoint=EndpointStats(peers=1, late_ticks=5, datagrams_dropped={"bad_stun": 6}),
    telephony=TelephonyStats(
        refused={"twilio.invalid_signature": 8}, faults={"odd_sound": 9}, late_ticks=10, hang_ups_failed=11
    ),
    targets=[TargetStats(name="cloud", dials=12, failures=13, lost=14, renewals=15, given_up=16)],
)
"""Of a process in which everything has gone wrong once."""


def read(text: str) -> Figures:
    """The samples of a page in Prometheus's format."""
    found: Figures = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            values = tuple(value for _, value in sorted(sample.labels.items()))
            assert values not in found.setdefault(sample.name, {}), sample
            found[sample.name][values] = sample.value
    return found


async def figures_of(metrics: Metrics) -> Figures:
    """What they say now."""
    await metrics.collect_all()
    found: Figures = {}
    for family in metrics.registry.collect():
        for sample in family.samples:
            found.setdefault(sample.name, {})[tuple(value for _, value in sorted(sample.labels.items()))] = sample.value
    return found
