"""Which calls there are, and whose they are: asked by whoever looks for a call, told by whoever has it.

A directory may know calls of other processes as well, so it is asked with ``await``; it is told without.
"""

from dataclasses import dataclass
from typing import Protocol

from bridge.calls.keys import API_KEY_ID
from bridge.calls.search import matches
from bridge.context import CallContext
from bridge.errors import UnknownCall

__all__ = ["CallDirectory", "CallRecord", "LocalCallDirectory", "unknown_call"]

_MAX_METADATA = 16
_MAX_SEARCHED_CHARS = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class CallRecord:
    """What is known of a call wherever it runs."""

    call_id: str
    key_id: str
    """The key that opened it."""
    found_by: tuple[str, ...] = ()
    """By what else it can be searched for: ids, addresses, telephone numbers. No secret is among them."""

    @classmethod
    def of(cls, context: CallContext, key_id: str) -> "CallRecord":
        """That of the call that ``context`` is of; what a caller may make as long as it likes is cut."""
        metadata = [value[:_MAX_SEARCHED_CHARS] for value in context.metadata.values() if value not in context.secrets]
        trace_id = "" if context.trace is None else context.trace.trace_id
        texts = (
            context.session_id,
            trace_id,
            key_id,
            context.caller,
            *context.carrier_ids.values(),
            *metadata[:_MAX_METADATA],
        )
        return cls(call_id=context.call_id, key_id=key_id, found_by=tuple(filter(None, texts)))

    def is_found_by(self, query: str) -> bool:
        """It is what somebody looks for who has this much of it; see ``search.matches``."""
        return matches(query, (self.call_id, *self.found_by))

    def is_visible_to(self, key_id: str) -> bool:
        """The key has opened the call, or sees all."""
        return key_id in (API_KEY_ID, self.key_id)


class CallDirectory(Protocol):
    """All calls that run or connect."""

    def add(self, record: CallRecord) -> None:
        """A call has begun here. It returns at once; others may learn of it a little later."""
        ...

    def remove(self, call_id: str) -> None:
        """The call is over; may be called twice."""
        ...

    async def find(self, call_id: str) -> CallRecord | None:
        """The call; None if there is none of this id."""
        ...

    async def list(self) -> list[CallRecord]:
        """All of them, oldest first."""
        ...


class LocalCallDirectory:
    """The ``CallDirectory`` of one process."""

    def __init__(self) -> None:
        self._records: dict[str, CallRecord] = {}

    def add(self, record: CallRecord) -> None:
        """See ``CallDirectory``."""
        self._records[record.call_id] = record

    def remove(self, call_id: str) -> None:
        """See ``CallDirectory``."""
        self._records.pop(call_id, None)

    async def find(self, call_id: str) -> CallRecord | None:
        """See ``CallDirectory``."""
        return self._records.get(call_id)

    async def list(self) -> list[CallRecord]:
        """See ``CallDirectory``."""
        return list(self._records.values())


def unknown_call(call_id: str, *, param: str = "call_id") -> UnknownCall:
    """The refusal of a call that is another's, or nobody's: both are told alike."""
    return UnknownCall(f"No call '{call_id[:64]}' is running here.", param=param)
