"""How the daemon says what happens: by events with keys, as lines for a person or as JSON, and never with a secret.

An event is a short dotted name, ``room.happening``; everything else is a key. The lines of a call have its ``call_id``:
see ``bridge.context``. The standard library's loggers (uvicorn, aiortc, aioice, asyncio) write lines of the same form,
from WARNING up. If one of them repeats a message, it is written once a second.
"""

import copy
import logging
import os
import re
import sys
import threading
import time
from collections import deque
from collections.abc import Mapping
from math import inf, isfinite
from typing import Any, TextIO, cast

import structlog
from structlog.typing import EventDict, FilteringBoundLogger, Processor, WrappedLogger

__all__ = ["LineWriter", "Tally", "configure", "get_logger", "is_for_a_person", "set_level"]

_LONGEST_VALUE = 2000
_REDACTED = "[redacted]"
_HANDLER_NAME = "bridge"
_RETRY_S = 0.05

# The last word of a key whose value never belongs in a log: ``openai-api-key`` and ``ice_pwd``, but not ``audio_ms``.
_HIDDEN_WORDS = frozenset(
    {
        "apikey",
        "audio",
        "authorization",
        "cookie",
        "credential",
        "credentials",
        "key",
        "keys",
        "passcode",
        "passwd",
        "password",
        "pin",
        "pwd",
        "sdp",
        "secret",
        "token",
    }
)
_WORD_BREAK = re.compile(r"[^A-Za-z0-9]|(?<=[a-z0-9])(?=[A-Z])")

# Values that look like secrets or bodies, whatever their key is.
_SECRET = re.compile(
    r"(?<![A-Za-z0-9])(?:ek_|sk-)[\w-]+"  # our keys and OpenAI's
    r"|(?i:\bbearer)\s+[^\s\"']+"  # RFC 6750 §2.1
    r"|\bv=0(?:\r?\n[a-z]=[^\r\n]*|(?:\\[rn])+[a-z]=[^\\\r\n]*)+"  # an SDP body (RFC 8866 §5), as is or escaped
    r"|(?<=ice-pwd:)\S+"  # one line of it (RFC 8839 §5.4)
    r"|[A-Za-z0-9+/=]{256,}"  # sound in base64
)

# A newline would forge a line, an escape sequence would drive the terminal, and a lone surrogate cannot be written.
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


def configure(
    format: str, level: str, stream: "TextIO | LineWriter | None" = None, *, keys: Mapping[str, Any] | None = None
) -> None:
    """Writes all logs to ``stream``, or standard error. Each line has ``keys``.

    ``auto`` stands for ``console`` on a terminal and for ``json`` elsewhere.
    """
    stream = cast(TextIO, stream or sys.stderr)
    shared: list[Processor] = [
        _Tracebacks(),
        *([_Keys(keys)] if keys else []),
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]
    ending = _console(stream) if is_for_a_person(format, stream) else _json()
    structlog.configure(
        processors=[*shared, *ending],
        logger_factory=structlog.WriteLoggerFactory(stream),
        cache_logger_on_first_use=False,
    )
    _route_standard_logging([structlog.stdlib.add_logger_name, *shared], ending, stream)
    set_level(level)


def is_for_a_person(format: str, stream: "TextIO | LineWriter") -> bool:
    """Returns whether ``configure`` with this format and stream writes lines for a person, and not JSON."""
    return format == "console" or (format == "auto" and stream.isatty())


def set_level(level: str) -> None:
    """From now on, writes only lines of ``level`` and above; those of libraries from WARNING up."""
    threshold = logging.getLevelNamesMapping()[level.upper()]
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(threshold))
    root = logging.getLogger()
    root.setLevel(max(threshold, logging.WARNING))


def get_logger(room: str, **keys: Any) -> FilteringBoundLogger:
    """Returns the logger of one room, with ``keys`` on each line. It may be made at import time, before ``configure``.

    It asks for the level with each line. What its ``bind`` returns keeps the level of that moment: a logger that lives
    long should get its ``keys`` here.
    """
    return cast(FilteringBoundLogger, structlog.get_logger(room=room, **keys))


class LineWriter:
    """A stream for ``configure`` that never makes its writers wait: a thread of its own writes to ``descriptor``.

    Theory of operation: the reader of standard error may be slow, or have stopped. Lines wait in a queue of at most
    ``MAX_CHARS``. If it is full, lines are dropped, and once there is room again, one line ``log.dropped`` says how
    many. ``with`` starts the thread; at the end of the block it waits until the queue is empty, but only for
    ``CLOSE_S``.
    """

    MAX_CHARS = 1024 * 1024
    CLOSE_S = 1.0

    def __init__(self, descriptor: int, *, is_terminal: bool = False) -> None:
        self.dropped = 0
        """The number of lines that were dropped."""
        self._descriptor = descriptor
        self._is_terminal = is_terminal
        self._lines: deque[str] = deque()
        self._chars = 0
        self._untold = 0
        self._is_closing = False
        self._news = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="log", daemon=True)

    def __enter__(self) -> "LineWriter":
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        with self._news:
            self._is_closing = True
            self._news.notify()
        self._thread.join(self.CLOSE_S)  # if it is stuck in a write, it ends with the process

    def isatty(self) -> bool:
        """Returns whether the lines go to a terminal."""
        return self._is_terminal

    def flush(self) -> None:
        """Does nothing: the thread writes as fast as it can."""

    def write(self, text: str) -> int:
        """Queues one line or more, or drops them; may be called from any thread."""
        with self._news:
            if self._chars + len(text) > self.MAX_CHARS:
                self.dropped += 1
                self._untold += 1
            else:
                self._lines.append(text)
                self._chars += len(text)
                self._news.notify()
        return len(text)

    def _run(self) -> None:
        while True:
            with self._news:
                while not self._lines and not self._untold:
                    if self._is_closing:
                        return
                    self._news.wait()
                text = "".join(self._lines)
                self._lines.clear()
            self._put(text.encode("utf-8", "backslashreplace"))
            with self._news:
                self._chars -= len(text)
                untold, self._untold = self._untold, 0
            if untold:
                get_logger("log").warning("log.dropped", count=untold)

    def _put(self, data: bytes) -> None:
        """Writes for as long as it takes. If nobody can read any more, the data is lost."""
        view = memoryview(data)
        while view:
            try:
                view = view[os.write(self._descriptor, view) :]
            except BlockingIOError:  # another process has made the descriptor non-blocking
                time.sleep(_RETRY_S)
            except OSError:
                return


class Tally:
    """Turns a storm of repeats into one line per second and name; exact totals are for the metrics.

    Theory of operation: the first repeat is reported at once. Those that follow within a second are held back, and the
    first one after it reports them together with itself.
    """

    PERIOD_S = 1.0
    MAX_NAMES = 1000

    def __init__(self) -> None:
        self._reported_at: dict[str, float] = {}
        self._held: dict[str, int] = {}

    def count_repeat(self, name: str, now: float) -> int | None:
        """Counts one repeat. Returns how many to report now, or None while it is too soon."""
        if len(self._reported_at) >= self.MAX_NAMES and name not in self._reported_at:
            self._reported_at.clear()
            self._held.clear()
        count = self._held.get(name, 0) + 1
        if now - self._reported_at.get(name, -inf) < self.PERIOD_S:
            self._held[name] = count
            return None
        self._reported_at[name] = now
        self._held[name] = 0
        return count


def _console(stream: TextIO) -> list[Processor]:
    renderer = structlog.dev.ConsoleRenderer(colors=stream.isatty(), exception_formatter=structlog.dev.plain_traceback)
    return [structlog.processors.format_exc_info, _redact, renderer]


def _json() -> list[Processor]:
    # A traceback without its locals: they hold keys, SDP bodies and sound.
    tracebacks = structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
    return [
        structlog.processors.ExceptionRenderer(tracebacks),
        _redact,
        structlog.processors.JSONRenderer(),
    ]


def _route_standard_logging(before: list[Processor], ending: list[Processor], stream: TextIO) -> None:
    """Makes the root logger write in the form of ours; a handler from an earlier call is replaced."""
    handler = _StormHandler(stream)
    handler.name = _HANDLER_NAME
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=before,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *ending],
        )
    )
    root = logging.getLogger()
    for earlier in [h for h in root.handlers if h.name == _HANDLER_NAME]:
        root.removeHandler(earlier)
    root.addHandler(handler)


class _Keys:
    """Puts the same keys on every line."""

    def __init__(self, keys: Mapping[str, Any]) -> None:
        self._keys = dict(keys)

    def __call__(self, _logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        """Adds the keys; what the event says itself counts first."""
        return {**self._keys, **event}


class _Tracebacks:
    """Limits tracebacks to one a second for each event.

    Whoever finds a way to make the bridge fail must not be able to fill the log.
    """

    def __init__(self) -> None:
        self._tally = Tally()

    def __call__(self, _logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        """Lets the event pass, with the ``count`` of those that were held back, or holds it back."""
        if event.get("exc_info") and "_record" not in event:
            count = self._tally.count_repeat(str(event["event"]), time.monotonic())
            if count is None:
                raise structlog.DropEvent
            if count > 1:
                event["count"] = count
        return event


class _StormHandler(logging.StreamHandler[TextIO]):
    """Writes what a library repeats once a second, with the number of repeats."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        self._tally = Tally()

    def emit(self, record: logging.LogRecord) -> None:
        """Writes the record, or counts it."""
        count = self._tally.count_repeat(f"{record.name} {record.msg}", time.monotonic())
        if count is None:
            return
        if count > 1:
            record = copy.copy(record)
            record.msg, record.args = f"{record.getMessage()} ({count} times)", None
        super().emit(record)


def _redact(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Takes secrets, bodies and control characters out of every value, and leaves plain JSON types."""
    traceback = event.pop("exception", None)
    cleaned = _clean_mapping(event)
    if isinstance(traceback, str):  # it is for a person, so it keeps its lines and its length
        cleaned["exception"] = "\n".join(map(_clean, _SECRET.sub(_REDACTED, traceback).splitlines()))
    elif traceback is not None:
        cleaned["exception"] = _clean(traceback)
    return cleaned


def _clean_mapping(mapping: Mapping[Any, Any]) -> dict[str, Any]:
    return {str(key): _REDACTED if _is_hidden(str(key)) else _clean(value) for key, value in mapping.items()}


def _clean(value: Any) -> Any:
    match value:
        case None | bool() | int():
            return value
        case float() if isfinite(value):  # JSON has no other floats
            return value
        case str():
            text = _UNPRINTABLE.sub(" ", _SECRET.sub(_REDACTED, value))
            return text if len(text) <= _LONGEST_VALUE else f"{text[:_LONGEST_VALUE]}… ({len(text)} characters)"
        case bytes() | bytearray() | memoryview():
            return f"<{len(value)} bytes>"
        case Mapping():
            return _clean_mapping(value)
        case list() | tuple() | set() | frozenset():
            return [_clean(item) for item in value]
        case _:
            return _clean(repr(value))


def _is_hidden(key: str) -> bool:
    return _WORD_BREAK.split(key)[-1].lower() in _HIDDEN_WORDS
