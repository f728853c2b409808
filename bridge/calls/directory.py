"""Which calls there are, and whose they are: whoever looks for a call asks here, and whoever has it tells it here.

A directory may know calls of other processes as well, so questions to it are awaited; what it is told is not.
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
    """What is known of a call, in whichever process it runs."""

    call_id: str
    key_id: str
    """The id of the key that opened it."""
    found_by: tuple[str, ...] = ()
    """Other words by which it is found: ids, addresses, telephone numbers. No secret is among them."""

    @classmethod
    def of(cls, context: CallContext, key_id: str) -> "CallRecord":
        """Makes the record of the call that ``context`` is of.

        Values that a caller may make as long as it likes are cut.
        """
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
        """Whether it is what somebody looks for who has this much of it; see ``search.matches``."""
        return matches(query, (self.call_id, *self.found_by))

    def is_visible_to(self, key_id: str) -> bool:
        """Whether the key has opened the call, or sees all."""
        return key_id in (API_KEY_ID, self.key_id)


class CallDirectory(Protocol):
    """All calls that run or connect."""

    def add_call(self, record: CallRecord) -> None:
        """Adds a call that has begun here.

        It returns at once; others may learn of the call a little later.
        """
        ...

    def remove(self, call_id: str) -> None:
        """Removes a call that is over; may be called twice."""
        ...

    async def find(self, call_id: str) -> CallRecord | None:
        """Returns the call; None if there is none with this id."""
        ...

    async def list(self) -> list[CallRecord]:
        """Returns all of them, oldest first."""
        ...


class LocalCallDirectory:
    """The ``CallDirectory`` of one process."""

    def __init__(self) -> None:
        self._records: dict[str, CallRecord] = {}

    def add_call(self, record: CallRecord) -> None:
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
    """Returns the refusal for a call that is another key's, or nobody's: both get the same one."""
    return UnknownCall(f"No call with the ID '{call_id[:64]}' is running here.", param=param)
