"""Records calls: each recording is a consumer of one call, and writes its sound and events into files.

Everything that touches a file runs in one thread for all recordings, behind a bounded queue. If the disk is slow, the
recording loses sound: its own events tell how much, and its sound is silent there. If the disk is full, the recording
ends, and an event says so. The call never notices.
"""

import asyncio
import contextlib
import os
import secrets
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import msgspec

from bridge.errors import BadRequest, ConfigError
from bridge.log import get_logger
from bridge.media.stereo import StereoTimeline
from bridge.recording.age import Recipient
from bridge.recording.files import NOTE_SUFFIX, Format, RecordingFiles, leave_note
from bridge.recording.leftovers import finish_leftovers
from bridge.recording.uploads import UploadNote
from bridge.session.fanout.replay import DROPPED
from bridge.session.fanout.subscription import Subscription, TrackName
from bridge.session.session import Session
from bridge.wire.audio import PCM16, SESSION_HZ, AudioFormat
from bridge.wire.choices import TRACKS
from bridge.wire.ids import new_id
from bridge.wire.own_events import CallOpened, ListenerDropped, RecordingEnded, RecordingStarted
from bridge.wire.server_events import OutputAudioBufferCleared, ServerEvent, encode
from bridge.wire.stats import Dialect, Framing, ListenerRole, ListenerStats, RecordingState, RecordingStats

__all__ = ["EveryCall", "Recorder", "Recording"]

_log = get_logger("recorder")

_TICK_S = 0.25
_CLOSE_DEADLINE_S = 10.0  # for writing the rest when the daemon stops
_HIGH_WATER_BYTES = 4 * 1024 * 1024  # bytes of one recording on their way to the disk
_LOW_WATER_BYTES = 1024 * 1024
_LONGEST_WAIT_S = 60.0  # more of the caller's sound is handed on at once
_MAX_LINES_BYTES = 256 * 1024
_MAX_WAITING_LINES_BYTES = 1024 * 1024  # if the disk takes nothing, the recording ends then
_MAX_TOLD = 50  # files in one line of the log


class _Draft:
    """What one recording has taken and not written yet, within bounds."""

    def __init__(self, began: float) -> None:
        self.began = began
        self.timeline = StereoTimeline(SESSION_HZ)
        self.lines = bytearray()
        self.waiting_bytes = 0
        """The number of bytes on their way to the disk."""
        self.is_full = False
        self.last_event_id = ""
        self.dropped_events = self.dropped_ms = 0
        """How many pieces of sound were left out because the disk was slow, and how many ms."""
        self._unreported_events = self._unreported_ms = 0

    def note(self, text: bytes, now: float) -> None:
        """Adds a line with an event and its time."""
        self.lines += b'{"at_ms":%d,"event":%b}\n' % (round(1000 * (now - self.began)), text)

    def drop(self, audio_ms: int) -> None:
        """Counts a piece of sound that is left out."""
        self.dropped_events += 1
        self.dropped_ms += audio_ms
        self._unreported_events += 1
        self._unreported_ms += audio_ms

    def report(self, now: float) -> None:
        """Adds a line that says how much sound was left out until now."""
        if self._unreported_events:
            report = ListenerDropped(
                event_id=f"{self.last_event_id}{DROPPED}",
                events=self._unreported_events,
                audio_ms=self._unreported_ms,
            )
            self._unreported_events = self._unreported_ms = 0
            self.note(encode(report), now)

    def take_lines(self) -> bytes:
        """Returns all lines, and forgets them."""
        lines = bytes(self.lines)
        self.lines.clear()
        return lines


class Recording:
    """The recording of one call, as a ``Consumer`` of it."""

    def __init__(self, session: Session, recorder: "Recorder") -> None:
        self.id = new_id("rec")
        self.call_id = session.info.id
        self.name = f"{self.call_id}-{self.id}"
        self.log = session.context.logger("recorder", recording_id=self.id)
        self.reason = ""
        """Why it ended; empty while it runs."""
        self.session = session
        self.subscription: Subscription | None = None
        self.files: RecordingFiles | None = None
        """The files, which only the recorder's thread uses."""
        self._recorder = recorder
        self._draft = _Draft(recorder.now())
        self._listener_id = new_id("lst")

    # Consumer

    def event(self, event: ServerEvent, text: bytes) -> None:
        """Takes an event. Nothing is written here."""
        if self.reason:
            return
        draft, now = self._draft, self._recorder.now()
        if isinstance(event, OutputAudioBufferCleared):
            draft.timeline.cut(now - draft.began)
        draft.last_event_id = str(event.event_id)
        draft.note(text, now)
        if len(draft.lines) > _MAX_WAITING_LINES_BYTES:
            self.end("disk_too_slow")
        elif len(draft.lines) > _MAX_LINES_BYTES:
            self.hand_on()

    def sound(self, track: TrackName, audio_format: AudioFormat, pcm: bytes, timestamp: int) -> None:
        """Takes a piece of sound, or leaves it out if the disk does not keep up."""
        if self.reason:
            return
        draft = self._draft
        if draft.is_full:
            draft.drop(len(pcm) // audio_format.bytes_per_ms)
            return
        lay = draft.timeline.add_caller_sound if track == "input" else draft.timeline.add_answer_sound
        lay(pcm, timestamp, self._recorder.now() - draft.began)
        if draft.timeline.waiting_s > _LONGEST_WAIT_S:
            self.hand_on()

    def ended(self, error: Exception | None) -> None:
        """Ends the recording, because the call is over or something went wrong here."""
        if error is None:
            self.end("call_ended")
        else:
            self._recorder.fail(self, error)

    def listed(self) -> ListenerStats:
        """Returns its entry among the call's listeners: a listener that takes binary frames."""
        return ListenerStats(
            id=self._listener_id,
            role=ListenerRole.RECORDER,
            dialect=Dialect.GA,
            audio=PCM16.name,
            chunk_ms=None,
            chunk_size=None,
            tracks=list(TRACKS),
            events=None,
            framing=Framing.BINARY,
            is_held=False,
            last_event_id=self._draft.last_event_id,
            backlog_bytes=self.buffered_bytes,
            dropped_events=self._draft.dropped_events,
            dropped_ms=self._draft.dropped_ms,
        )

    @property
    def buffered_bytes(self) -> int:
        """The number of bytes on their way to the disk."""
        return self._draft.waiting_bytes + len(self._draft.lines)

    # Its life

    def hand_on(self) -> None:
        """Hands what is final to the recorder's thread, unless too much is on its way there."""
        draft = self._draft
        if not draft.is_full:
            self._write(*draft.timeline.take_final(self._recorder.now() - draft.began))

    def end(self, reason: str) -> None:
        """Records no more, and has the files completed. Only the first reason counts."""
        if self.reason:
            return
        draft, now = self._draft, self._recorder.now()
        self.reason = reason
        self.seconds = now - draft.began
        draft.report(now)
        if reason != "failed":
            for left, right in draft.timeline.finish(self.seconds):
                self._write(left, right)
            self._write(b"", b"")
        self._recorder.ended(self)
        if self.subscription is not None:
            self.subscription.cancel()

    def stats(self) -> RecordingStats:
        """Returns the state of the recording."""
        state = RecordingState.RECORDING
        if self.reason:
            state = RecordingState.FAILED if self.reason == "failed" else RecordingState.FINISHING
        seconds = self.seconds if self.reason else self._recorder.now() - self._draft.began
        return RecordingStats(id=self.id, call_id=self.call_id, state=state, seconds=round(seconds, 1))

    def _write(self, left: bytes, right: bytes) -> None:
        draft = self._draft
        lines = draft.take_lines()
        size = len(left) + len(right) + len(lines)
        if not size:
            return
        draft.waiting_bytes += size
        if draft.waiting_bytes > _HIGH_WATER_BYTES:
            draft.is_full = True
        self._recorder.submit(self, lambda files: files.write(left, right, lines), lambda: self._written(size))

    def _written(self, size: int) -> None:
        draft = self._draft
        draft.waiting_bytes -= size
        if draft.is_full and draft.waiting_bytes < _LOW_WATER_BYTES:
            draft.is_full = False
            if not self.reason:
                draft.report(self._recorder.now())


class Recorder:
    """All recordings of a daemon. ``async with`` owns its thread, and completes what is unfinished at the end."""

    def __init__(
        self,
        folder: str,
        *,
        sound_format: Format,
        announce: Callable[[ServerEvent], None],
        recipients: Sequence[Recipient] = (),
        upload_soon: Callable[[], None] | None = None,
        thread: ThreadPoolExecutor | None = None,
    ) -> None:
        """Takes the folder. What begins from now on is encrypted for ``recipients``.

        ``announce`` tells an event to those who follow all calls. ``upload_soon`` is called if there is a recording to
        be uploaded; without it, recordings stay where they are. All files are touched in ``thread``, which is of one
        thread and ends with the recorder; by default it is a new one.
        """
        self.recipients = recipients
        self._upload_soon = upload_soon
        self._path = folder
        self._format = sound_format
        self._announce = announce
        self._recordings: dict[str, Recording] = {}
        self._unfinished: set[Recording] = set()
        self._all_done = asyncio.Event()
        self._thread = thread or ThreadPoolExecutor(1, thread_name_prefix="recorder")
        self._tick: asyncio.TimerHandle | None = None

    async def __aenter__(self) -> "Recorder":
        self._loop = asyncio.get_running_loop()
        try:
            self._folder = await self._loop.run_in_executor(self._thread, _open_folder, self._path)
        except OSError as error:
            self._thread.shutdown(wait=False)
            reason = f"cannot write to {self._path}: {error.strerror}"
            raise ConfigError(f"record_dir: {reason}", param="record_dir") from None
        await self._finish_leftovers()
        self._tick = self._loop.call_later(_TICK_S, self._hand_on)
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        for recording in tuple(self._recordings.values()):
            recording.end("server_stopped")
        if self._tick is not None:
            self._tick.cancel()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_CLOSE_DEADLINE_S):
                while self._unfinished:
                    self._all_done.clear()
                    await self._all_done.wait()
        for recording in self._unfinished:
            recording.log.error("recorder.unfinished")
        self._thread.submit(os.close, self._folder)
        self._thread.shutdown(wait=False)

    async def _finish_leftovers(self) -> None:
        """Completes what an earlier process was writing when it was killed."""
        try:
            found = await self._loop.run_in_executor(self._thread, finish_leftovers, self._folder)
        except OSError as error:
            _log.error("recorder.leftovers_unknown", error=str(error))
            return
        if found.finished and self._upload_soon is not None:
            await self._loop.run_in_executor(self._thread, _note_recovered, self._folder, found.finished)
        if found.finished:
            _log.warning("recorder.recovered", count=len(found.finished), files=found.finished[:_MAX_TOLD])
        if found.left:
            left = dict(list(found.left.items())[:_MAX_TOLD])
            _log.error("recorder.left_unfinished", count=len(found.left), files=left)

    def now(self) -> float:
        """Returns the time of the event loop, in seconds."""
        return self._loop.time()

    def find(self, call_id: str) -> Recording | None:
        """Returns the running recording of a call; None if there is none."""
        return self._recordings.get(call_id)

    def start(self, session: Session) -> Recording:
        """Begins to record a call, or returns its running recording: a call has one recording at a time."""
        running = self.find(session.info.id)
        if running is not None:
            return running
        recording = Recording(session, self)
        self._recordings[recording.call_id] = recording
        self._unfinished.add(recording)
        self._run(recording, lambda: self._open(recording), lambda: None)
        self._tell(recording, RecordingStarted(call_id=recording.call_id, recording_id=recording.id))
        recording.subscription = session.audience.subscribe(recording, PCM16)
        return recording

    def stop(self, call_id: str) -> Recording:
        """Ends the call's recording; raises ``BadRequest`` if there is none."""
        recording = self.find(call_id)
        if recording is None:
            raise BadRequest("This call is not being recorded.", code="not_recording")
        recording.end("requested")
        return recording

    def submit(self, recording: Recording, work: Callable[[RecordingFiles], None], then: Callable[[], None]) -> None:
        """Runs ``work`` with the recording's files in the thread, and ``then`` in the event loop.

        It does nothing for a recording that has failed.
        """

        def write() -> None:
            if recording.files is not None:
                work(recording.files)

        self._run(recording, write, then)

    def ended(self, recording: Recording) -> None:
        """Completes the files of a recording that has ended, and tells of it. A failed one is only forgotten."""
        self._recordings.pop(recording.call_id, None)
        if recording.reason == "failed":
            return
        names: tuple[str, ...] = ()

        def complete() -> None:
            nonlocal names
            if recording.files is not None:
                files = recording.files
                note = None if self._upload_soon is None else _note_of(recording, list(files.names))
                files.end(note)
                names = files.names

        self._run(recording, complete, lambda: self._over(recording, names))

    def _open(self, recording: Recording) -> None:
        recording.files = RecordingFiles(self._folder, recording.name, self._format, self.recipients)

    def _run(self, recording: Recording, work: Callable[[], None], then: Callable[[], None]) -> None:
        def done(future: "Future[None]") -> None:
            self._loop.call_soon_threadsafe(self._done, recording, future, then)

        self._thread.submit(_contained, recording, work).add_done_callback(done)

    def _done(self, recording: Recording, future: "Future[None]", then: Callable[[], None]) -> None:
        error = future.exception()
        if error is None:
            then()
            return
        self._fail(recording, error)

    def fail(self, recording: Recording, error: BaseException) -> None:
        """Gives a recording up: nothing more is written, and its files stay as they are."""
        self._run(recording, lambda: _abandon(recording), lambda: None)
        self._fail(recording, error)

    def _fail(self, recording: Recording, error: BaseException) -> None:
        if recording not in self._unfinished:
            return
        recording.log.error("recorder.failed", error=str(error))
        if not recording.reason:
            recording.end("failed")
        recording.reason = "failed"
        self._over(recording, (), error=error)

    def _over(self, recording: Recording, names: tuple[str, ...], *, error: BaseException | None = None) -> None:
        self._unfinished.discard(recording)
        if not self._unfinished:
            self._all_done.set()
        if recording.reason == "failed" and error is None:
            return
        message = None if error is None else getattr(error, "strerror", None) or type(error).__name__
        ending = RecordingEnded(
            call_id=recording.call_id,
            recording_id=recording.id,
            reason=recording.reason,
            seconds=round(recording.seconds, 3),
            files=list(names),
            error=message,
            awaits_upload=self._upload_soon is not None and error is None,
        )
        self._tell(recording, ending)
        if self._upload_soon is not None:
            self._upload_soon()

    def _tell(self, recording: Recording, event: RecordingStarted | RecordingEnded) -> None:
        """Tells an event to those who follow all calls, and to those of the call who know the bridge's events."""
        recording.session.audience.hub.publish_own(event)
        self._announce(event)

    def _hand_on(self) -> None:
        for recording in tuple(self._recordings.values()):
            recording.hand_on()
        self._tick = self._loop.call_later(_TICK_S, self._hand_on)


class EveryCall:
    """Records each call from its beginning. It subscribes to the events of all calls."""

    def __init__(self, recorder: Recorder, find: Callable[[str], Session]) -> None:
        self._recorder = recorder
        self._find = find

    def event(self, event: ServerEvent, text: bytes) -> None:
        """Begins to record a call when it opens."""
        if isinstance(event, CallOpened):
            self._recorder.start(self._find(event.call.id))


def _note_of(recording: Recording, names: list[str]) -> bytes:
    """Returns the note that says what to tell of a recording when it has been uploaded."""
    note = UploadNote(
        call_id=recording.call_id,
        recording_id=recording.id,
        reason=recording.reason,
        seconds=round(recording.seconds, 3),
        files=names,
    )
    return msgspec.json.encode(note)


def _note_recovered(folder: int, names: Sequence[str]) -> None:
    """Has what a killed process has left uploaded, too. This runs in the thread."""
    for stem in {name.partition(".")[0] for name in names}:
        if f"{stem}{NOTE_SUFFIX}" not in os.listdir(folder):
            call_id, _, recording_id = stem.rpartition("-")
            files = sorted(name for name in os.listdir(folder) if name.startswith(f"{stem}."))
            note = UploadNote(
                call_id=call_id, recording_id=recording_id, reason="server_killed", seconds=None, files=files
            )
            leave_note(folder, stem, msgspec.json.encode(note))


def _open_folder(path: str) -> int:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    probe = f".{secrets.token_hex(8)}"  # permissions alone do not tell: those of /proc allow it
    try:
        os.close(os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=descriptor))
        os.unlink(probe, dir_fd=descriptor)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _contained(recording: Recording, work: Callable[[], None]) -> None:
    """Runs ``work`` in the thread. Once something went wrong, nothing more is written."""
    try:
        work()
    except BaseException:
        _abandon(recording)
        raise


def _abandon(recording: Recording) -> None:
    files, recording.files = recording.files, None
    if files is not None:
        files.abandon()
