"""Puts recordings into an object store: S3, Google Cloud Storage, Azure Blob Storage, or what speaks like them.

Theory of operation. The folder is the queue. A complete recording that is to be uploaded has a note beside it,
``NAME.upload``. When all of its files are in the store and everybody was told, they are deleted here, the note last. So
nothing is lost with the process, and the next process goes on. What was uploaded and not yet told is uploaded and told
once more. Whoever uploads a recording holds a lock on its note. An upload that fails is tried again, less and less
often, for ever.
"""

import asyncio
import contextlib
import fcntl
import os
import random
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from bridge.errors import ConfigError
from bridge.log import get_logger
from bridge.recording.files import NOTE_SUFFIX
from bridge.wire.own_events import RecordingUploaded

__all__ = ["Put", "UploadNote", "Uploader", "new_store"]

_log = get_logger("recorder")

_AT_ONCE = 4
_LOOK_S = 60.0  # between two looks for notes of ended processes
_FIRST_WAIT_S, _LONGEST_WAIT_S, _SPREAD = 1.0, 300.0, 0.2
_MOST_DOUBLINGS = 20  # a power without a bound is too large for a number after some days
_UPLOAD_S = 3600.0
_MAX_NOTE_BYTES = 64 * 1024

Put = Callable[[str, Path], Awaitable[None]]
"""Puts a file into the store under a name; raises what went wrong."""


class UploadNote(Struct, frozen=True, kw_only=True):
    """What is told of a recording when it has been uploaded."""

    call_id: str
    recording_id: str
    reason: str
    seconds: float | None
    """How long the recording is; None if the process that recorded it was killed."""
    files: list[str]


@dataclass(slots=True)
class _Try:
    """The tries to upload a recording that waits."""

    failures: int = 0
    due: float = 0.0


class Uploader:
    """Uploads the recordings of a folder.

    ``announce`` tells those who follow all calls. ``async with`` owns the tasks and a thread.
    """

    def __init__(
        self,
        folder: str,
        url: str,
        put: Put,
        announce: Callable[[RecordingUploaded], None],
        *,
        first_wait_s: float = _FIRST_WAIT_S,
    ) -> None:
        """``first_wait_s`` is the time between the first upload that fails and the next try; it doubles each time."""
        self.uploaded = self.failures = 0
        self.waiting = 0
        """The number of recordings that waited at the last look."""
        self._folder = folder
        self._url = url.rstrip("/")
        self._put = put
        self._announce = announce
        self._first_wait_s = first_wait_s
        self._tries: dict[str, _Try] = {}
        self._news = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="uploads")
        self._tasks = asyncio.TaskGroup()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> "Uploader":
        self._loop = asyncio.get_running_loop()
        await self._tasks.__aenter__()
        self._task = self._tasks.create_task(self._run())
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        """Ends the uploads. What is not uploaded by now is left for the next start."""
        if self._task is not None:
            self._task.cancel()
        await self._tasks.__aexit__(None, None, None)
        self._thread.shutdown(wait=False)

    def wake(self) -> None:
        """Has the uploader look at once, because a recording was completed."""
        self._news.set()

    async def _run(self) -> None:
        while True:
            self._news.clear()
            try:
                notes = await self._in_thread(_notes, self._folder)
            except OSError as error:
                _log.error("recorder.upload_folder_unreadable", error=str(error))
                notes = []
            self.waiting = len(notes)
            self._tries = {name: self._tries.get(name, _Try()) for name in notes}
            now = self._loop.time()
            due = [name for name in notes if self._tries[name].due <= now]
            if due:
                async with asyncio.TaskGroup() as uploads:
                    for name in due[:_AT_ONCE]:
                        uploads.create_task(self._upload(name))
                continue
            next_due = min((each.due for each in self._tries.values()), default=now + _LOOK_S)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(_LOOK_S, next_due - now)):
                    await self._news.wait()

    async def _upload(self, name: str) -> None:
        """Uploads one recording. Whatever goes wrong is logged, and the upload is tried again later."""
        try:
            note = await self._in_thread(_Lock, self._folder, name)
        except (OSError, msgspec.MsgspecError) as error:
            self._postpone(name, error)
            return
        try:
            if not note.is_ours:
                self._tries[name].due = self._loop.time() + _LOOK_S
                return
            async with asyncio.timeout(_UPLOAD_S):
                for file in note.read.files:
                    await self._put(file, Path(self._folder, file))
            urls = [f"{self._url}/{file}" for file in note.read.files]
            self._announce(RecordingUploaded(**msgspec.structs.asdict(note.read), urls=urls))
            await self._in_thread(note.forget)
            self.uploaded += 1
            self.waiting -= 1
            _log.info("recorder.uploaded", call_id=note.read.call_id, recording_id=note.read.recording_id, urls=urls)
        except Exception as error:  # a store may raise anything
            self._postpone(name, error)
        finally:
            await self._in_thread(note.release)

    def _postpone(self, name: str, error: Exception) -> None:
        self.failures += 1
        mine = self._tries[name]
        mine.failures += 1
        wait_s = min(_LONGEST_WAIT_S, self._first_wait_s * 2.0 ** min(mine.failures - 1, _MOST_DOUBLINGS))
        wait_s *= random.uniform(1 - _SPREAD, 1 + _SPREAD)
        mine.due = self._loop.time() + wait_s
        _log.warning("recorder.upload_failed", recording=name, failures=mine.failures, in_s=round(wait_s, 1),
                     error=_told(error))  # fmt: skip

    async def _in_thread(self, work: Callable[..., Any], *arguments: object) -> Any:
        return await asyncio.shield(self._loop.run_in_executor(self._thread, work, *arguments))


def new_store(url: str) -> Put:
    """Returns what puts files into the store at ``url``, with credentials of the environment.

    Raises ``ConfigError`` if ``url`` cannot be that of a store.
    """
    try:
        import obstore
        from obstore.exceptions import BaseError
        from obstore.store import from_url
    except ImportError:
        advice = "pip install 'bridge-realtime[upload]'"
        raise ConfigError(f"record_upload: needs obstore: {advice}", param="record_upload") from None
    try:
        # Clouds are asked by HTTPS. If the environment names another address, it may do without.
        store = from_url(url, client_options={"timeout": "60s", "connect_timeout": "10s", "allow_http": True})
    except (BaseError, ValueError) as error:
        raise ConfigError(
            f"record_upload: {url} is not an object store: {_told(error)}", param="record_upload"
        ) from None

    async def put(name: str, path: Path) -> None:
        await obstore.put_async(store, name, path)

    return put


class _Lock:
    """A note that was read, and locked unless another process has locked it.

    It is used only in the uploader's thread.
    """

    def __init__(self, folder: str, name: str) -> None:
        self._folder = folder
        self._path = os.path.join(folder, f"{name}{NOTE_SUFFIX}")
        self._descriptor = os.open(self._path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            self.is_ours = True
            try:
                fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                self.is_ours = False
            self.read = msgspec.json.decode(os.pread(self._descriptor, _MAX_NOTE_BYTES, 0), type=UploadNote)
        except BaseException:
            os.close(self._descriptor)
            raise

    def forget(self) -> None:
        """Deletes the recording here, because it is in the store and everybody knows."""
        for file in self.read.files:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(os.path.join(self._folder, file))
        os.unlink(self._path)

    def release(self) -> None:
        """Releases the lock, so that others may upload the recording."""
        os.close(self._descriptor)


def _notes(folder: str) -> list[str]:
    """Returns the recordings that wait and whose files are all there, oldest first."""
    with os.scandir(folder) as entries:
        found = {entry.name: entry for entry in entries}
    notes = [entry for name, entry in found.items() if name.endswith(NOTE_SUFFIX) and not name.startswith(".")]
    stems = {entry.name.removesuffix(NOTE_SUFFIX): entry for entry in notes}
    unfinished = {name.partition(".")[0] for name in found if name.endswith(".part")}
    waiting = [(stem, entry) for stem, entry in stems.items() if stem not in unfinished]
    return [stem for stem, entry in sorted(waiting, key=lambda pair: pair[1].stat().st_mtime)]


def _told(error: Exception) -> str:
    """Returns an error as one line, without the further lines that a store may write."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:300]}" if lines else type(error).__name__
