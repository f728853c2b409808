"""Recordings from their beginning to their end: they are made, encrypted, uploaded, kept for a while, and deleted."""

import contextlib
from collections.abc import Callable

from bridge.config import RecordingSettings
from bridge.errors import ConfigError
from bridge.recording.age import Recipient, read_recipient
from bridge.recording.recorder import Recorder
from bridge.recording.retention import KeepFiles, Retention
from bridge.recording.uploads import Put, Uploader, new_store
from bridge.wire.server_events import ServerEvent
from bridge.wire.stats import RecordingsStats

__all__ = ["Archive", "recipients_of"]


class Archive:
    """The recorder, and what becomes of its recordings; ``async with`` owns both."""

    def __init__(
        self,
        folder: str,
        settings: RecordingSettings,
        announce: Callable[[ServerEvent], None],
        *,
        new_put: Callable[[str], Put] = new_store,
    ) -> None:
        """Takes the settings; raises ``ConfigError``. ``announce`` tells an event to those who follow all calls."""
        url = settings.record_upload
        self._uploader = None if url is None else Uploader(folder, url, new_put(url), announce)
        self._retention = Retention(folder, _keep(settings))
        self.recorder = Recorder(
            folder,
            sound_format=settings.record_format,
            announce=announce,
            recipients=recipients_of(settings),
            upload_soon=None if self._uploader is None else self._uploader.wake,
        )
        self._stack = contextlib.AsyncExitStack()

    async def __aenter__(self) -> "Archive":
        async with contextlib.AsyncExitStack() as stack:
            if self._uploader is not None:  # before the recorder, so that it outlives the last recording
                await stack.enter_async_context(self._uploader)
            await stack.enter_async_context(self._retention)
            await stack.enter_async_context(self.recorder)
            if self._uploader is not None:
                self._uploader.wake()  # what a killed process left is complete now
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self._stack.aclose()

    def apply(self, settings: RecordingSettings) -> None:
        """Keeps recordings as ``settings`` say, from now on."""
        self._retention.keep = _keep(settings)

    @property
    def keep(self) -> KeepFiles:
        """How much is kept now."""
        return self._retention.keep

    def stats(self) -> RecordingsStats:
        """Returns how many recordings there are, and what has become of the others."""
        uploader, kept = self._uploader, self._retention.kept
        return RecordingsStats(
            kept=kept.recordings,
            kept_bytes=kept.size_bytes,
            deleted=self._retention.deleted,
            uploaded=0 if uploader is None else uploader.uploaded,
            upload_failures=0 if uploader is None else uploader.failures,
            awaiting_upload=0 if uploader is None else uploader.waiting,
        )


def recipients_of(settings: RecordingSettings) -> list[Recipient]:
    """Returns the keys of those who can read recordings; raises ``ConfigError`` if one is not a key."""
    try:
        return [read_recipient(text) for text in settings.record_recipient]
    except ValueError as error:
        raise ConfigError(f"record_recipient: {error}", param="record_recipient") from None


def _keep(settings: RecordingSettings) -> KeepFiles:
    return KeepFiles(settings.record_max_age_s, settings.record_max_bytes)
