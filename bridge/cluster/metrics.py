"""The metrics of a cluster, as one of its nodes sees it."""

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

__all__ = ["cluster_families"]


def cluster_families(*, nodes: int, is_up: bool, asked: int, failures: int) -> Iterator[Metric]:
    """Yields the metrics; ``asked`` and ``failures`` count commands to Redis since the start."""
    yield GaugeMetricFamily("bridge_cluster_nodes", "Live nodes of the cluster, including this one.", nodes)
    yield GaugeMetricFamily("bridge_cluster_redis_up", "1 if Redis answered the last command.", is_up)
    yield CounterMetricFamily("bridge_cluster_redis_commands", "Commands and batches sent to Redis.", asked)
    yield CounterMetricFamily(
        "bridge_cluster_redis_failures", "Commands and batches that Redis did not answer.", failures
    )
