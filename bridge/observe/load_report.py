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
    processor_percent: Annotated[float, Meta(description="of one core, that the process took, or all workers together")]
    memory_bytes: Annotated[int, Meta(description="resident; 0 where the system does not tell")]
    packets: Annotated[int, Meta(description="of WebRTC callers, that came")]
    lost: Annotated[int, Meta(description="that never came")]
    late: Annotated[int, Meta(description="that came too late to be played")]
    concealed_ms: Annotated[int, Meta(description="of callers' sound, guessed in place of what was lost")]
    telephone_late_ms: Annotated[int, Meta(description="of callers' sound from carriers, what came late")]
    round_trips: Annotated[int, Meta(description="WebRTC callers to whom it is known")]
    round_trip_ms: Annotated[float | None, Meta(description="to WebRTC callers, the mean; null without any")]
    worst_round_trip_ms: float | None
    queued_ms: Annotated[int, Meta(description="of the call that has most of an answer still to play")]
    answers: Annotated[int, Meta(description="whose first sound was played")]
    answer_ms: Annotated[float | None, Meta(description="from the end of speech to that sound, the mean")]
    refused: Annotated[dict[str, int], Meta(description="what was refused with 401, 403, 429 or 503, by its reason")]


class LoadReport(Struct, frozen=True, kw_only=True):
    """The samples of the last hour, and the process as it is now.

    Several workers of a machine are added up; of what has a limit, the worst counts. One that does not answer is left
    out.
    """

    object: str = "bridge.load"
    version: str
    started_at: Annotated[float, Meta(description="Unix time")]
    now: Annotated[float, Meta(description="Unix time")]
    every_s: Annotated[float, Meta(description="between two samples")]
    samples: Annotated[list[LoadSample], Meta(description="the oldest first")]
    refused: Annotated[dict[str, int], Meta(description="since the start, by the reason")]
    workers: Annotated[int, Meta(description="processes of which this tells")] = 1
    daemon: DaemonStats


def slot_of(at: float, every_s: float) -> int:
    """Returns the slot of this time. Slots of ``every_s`` follow each other, and all workers have the same."""
    return int(at // every_s)
