"""The metrics of recordings: how many there are, and what becomes of them."""

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from bridge.wire.stats import RecordingsStats

__all__ = ["families_of_recordings"]


def families_of_recordings(stats: RecordingsStats) -> Iterator[Metric]:
    """Yields the figures of recordings as Prometheus' metrics."""
    yield GaugeMetricFamily("bridge_recordings_kept", "Recordings in `record_dir`.", stats.kept)
    yield GaugeMetricFamily(
        "bridge_recordings_kept_bytes", "Total size of the recordings in `record_dir`.", stats.kept_bytes
    )
    yield CounterMetricFamily(
        "bridge_recordings_deleted", "Recordings deleted because of their age, or to make room.", stats.deleted
    )
    yield CounterMetricFamily(
        "bridge_recordings_uploaded", "Recordings that were uploaded to the object store.", stats.uploaded
    )
    yield CounterMetricFamily(
        "bridge_recording_upload_failures", "Uploads that failed and will be retried.", stats.upload_failures
    )
    yield GaugeMetricFamily(
        "bridge_recordings_awaiting_upload", "Recordings waiting to be uploaded.", stats.awaiting_upload
    )
