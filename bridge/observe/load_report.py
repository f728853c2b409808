"""What ``GET /v1/load`` answers: a sample of every five seconds, and how the process, or all workers, are now."""

from typing import Annotated

from msgspec import Meta, Struct

from bridge.wire.stats import DaemonStats

__all__ = ["LoadReport", "LoadSample", "slot_of"]


class LoadSample(Struct, frozen=True, kw_only=True):
    """The process at one time. Counts are those since the sample before."""

    at: Annotated[float, Meta(description="Unix time")]
    calls: int
    listeners: int
    loop_lag_ms: float
    processor_percent: Annotated[
        float, Meta(description="of one core, used by the process, or by all workers together")
    ]
    memory_bytes: Annotated[int, Meta(description="resident; 0 if the system does not report it")]
    packets: Annotated[int, Meta(description="received from WebRTC callers")]
    lost: Annotated[int, Meta(description="packets that never arrived")]
    late: Annotated[int, Meta(description="packets that arrived too late to be played")]
    concealed_ms: Annotated[int, Meta(description="of callers' sound, made up for what was lost")]
    telephone_late_ms: Annotated[int, Meta(description="of telephone callers' sound, what arrived late")]
    round_trips: Annotated[int, Meta(description="number of WebRTC callers whose round trip is known")]
    round_trip_ms: Annotated[float | None, Meta(description="mean over WebRTC callers; null if there are none")]
    worst_round_trip_ms: float | None
    queued_ms: Annotated[int, Meta(description="of the call with the longest answer still to be played")]
    answers: Annotated[int, Meta(description="answers whose first sound was played")]
    answer_ms: Annotated[float | None, Meta(description="mean time from the end of speech to that sound")]
    refused: Annotated[dict[str, int], Meta(description="requests that got 401, 403, 429 or 503, by reason")]


class LoadReport(Struct, frozen=True, kw_only=True):
    """The samples of the last hour, and the process as it is now.

    The workers of a machine are added up; for a figure with a limit, the worst worker counts. A worker that does not
    answer is left out.
    """

    object: str = "bridge.load"
    version: str
    started_at: Annotated[float, Meta(description="Unix time")]
    now: Annotated[float, Meta(description="Unix time")]
    every_s: Annotated[float, Meta(description="time between two samples")]
    samples: Annotated[list[LoadSample], Meta(description="oldest first")]
    refused: Annotated[dict[str, int], Meta(description="since the start, by reason")]
    workers: Annotated[int, Meta(description="number of processes in this report")] = 1
    daemon: DaemonStats


def slot_of(at: float, every_s: float) -> int:
    """Returns the slot of this time. Slots of ``every_s`` follow each other, and all workers have the same."""
    return int(at // every_s)
