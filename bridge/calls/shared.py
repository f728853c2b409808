"""What calls need beside themselves and several processes may share, as one process has it by itself."""

from collections.abc import Callable
from dataclasses import dataclass

from bridge.calls.ended import EndedCalls, LocalEndedCalls
from bridge.calls.events import EventBus, LocalEventBus
from bridge.calls.handles import RemoteCalls
from bridge.calls.keys import KeyStore, LocalKeyStore
from bridge.calls.moving import CarrierCallFinder
from bridge.calls.quotas import KeyAllowance, LocalKeyAllowance, LocalQuotas, Quotas
from bridge.calls.registry import CallLimits
from bridge.wire.ids import new_id

__all__ = ["KeyLimits", "SharedParts"]


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyLimits:
    """What each key, and each address without one, may have."""

    calls: int
    listeners: int
    page_keys: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedParts:
    """The parts that several processes may share."""

    keys: KeyStore
    quotas: Quotas
    page_keys: KeyAllowance
    ended: EndedCalls
    events: EventBus
    new_call_id: Callable[[str], str] = new_id
    remote_calls: RemoteCalls | None = None
    carrier_calls: CarrierCallFinder | None = None
    """None if no other process goes on with this one's telephone calls."""

    @classmethod
    def of_process(cls, limits: CallLimits, of_keys: KeyLimits) -> "SharedParts":
        """Makes the parts of a process that shares nothing."""
        return cls(
            keys=LocalKeyStore(),
            quotas=LocalQuotas.of(calls=of_keys.calls, listeners=of_keys.listeners),
            page_keys=LocalKeyAllowance(of_keys.page_keys),
            ended=LocalEndedCalls(limits.ended_calls, limits.ended_calls_age_s),
            events=LocalEventBus(limits.backlog),
        )
