"""The settings of recordings: where they are made, who can read them, how long they are kept, and where they go."""

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from msgspec import Meta

from bridge.config.fields import Applies, Fault, Positive, Section, Text, setting

if TYPE_CHECKING:
    from bridge.config.config import Config

__all__ = ["RecordingSettings"]

_STORE_URL = re.compile(r"(s3|gs|az|abfss?)://[^\s/?#@]+(/[^\s?#]*)?")
_Age = Annotated[float, Meta(ge=60)]
_RECIPIENT = re.compile(r"age1[a-z0-9]{58}")

LIVE, RESTART = Applies.LIVE, Applies.RESTART


class RecordingSettings(Section, frozen=True, kw_only=True):
    """The settings of recordings of calls."""

    section: ClassVar[str] = "recording"
    title: ClassVar[str] = "recording"

    record_dir: Annotated[Text | None, setting(RESTART, "directory for recordings; unset: nothing is recorded")] = None
    record_calls: Annotated[
        bool,
        setting(RESTART, "record every call from its beginning, not only calls for which a recording is requested"),
    ] = False
    record_format: Annotated[
        Literal["ogg", "wav"],
        setting(RESTART, "`ogg`: Opus at 48 kbit/s; `wav`: PCM16 at 24 kHz; both in stereo"),
    ] = "ogg"
    record_recipient: Annotated[
        tuple[Text, ...],
        setting(RESTART, "`age` public key (`age1…`) to which recordings are encrypted; unset: they are not encrypted"),
    ] = ()
    record_max_age_s: Annotated[
        _Age | None,
        setting(LIVE, "age at which a recording is deleted, in seconds; unset: no limit"),
    ] = None
    record_max_bytes: Annotated[
        Positive | None,
        setting(
            LIVE,
            "total size of the recordings in `record_dir` above which the oldest are deleted, in bytes; "
            "unset: no limit",
        ),
    ] = None
    record_upload: Annotated[
        Text | None,
        setting(
            RESTART,
            "URL of the object store (`s3://BUCKET/PREFIX`, `gs://…`, `az://…`) to which complete recordings are "
            "moved; the credentials come from the environment",
        ),
    ] = None

    def faults(self, config: "Config") -> Iterator[Fault]:
        """Finds recordings without a place, and keys and addresses that are none."""
        for name in ("record_calls", "record_recipient", "record_max_age_s", "record_max_bytes", "record_upload"):
            if getattr(self, name) and self.record_dir is None:
                yield Fault(name, "needs record_dir as well")
        for recipient in self.record_recipient:
            if not _RECIPIENT.fullmatch(recipient):
                yield Fault(
                    "record_recipient", f"must be a public key as age-keygen prints it, age1…, got {recipient!r}"
                )
        if self.record_upload is not None and not _STORE_URL.fullmatch(self.record_upload):
            yield Fault("record_upload", "must be the URL of a bucket, optionally with a path, such as s3://calls/2026")
