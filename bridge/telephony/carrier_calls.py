"""Decides which call a carrier's connection belongs to: who may open one, what it starts with, and who comes back.

Nothing is opened before ``CallStarted`` has been judged by what the carrier shows: a secret or a signature before the
upgrade, or a token in its messages. A token is one of the carrier's own secrets, or a single-use key. Such a key brings
the session that it was minted for.
"""

import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from math import inf
from typing import Any
from weakref import WeakValueDictionary

from msgspec import UNSET

from bridge.calls.handles import CarrierCall
from bridge.calls.keys import Grant, KeyStore, redeem_telephone_key
from bridge.calls.moving import MovingCall, Receive, token_digest
from bridge.calls.service import CallService
from bridge.calls.terms import Terms
from bridge.config import TelephonySettings
from bridge.context import CallContext, TraceContext
from bridge.errors import BadRequest, BridgeError, CannotCheck, Forbidden, RequestError, Unauthorized, UnknownCall
from bridge.log import Tally, get_logger
from bridge.telephony.clock import Clock
from bridge.telephony.dialect import RETURN_PARAMETER, CallStarted, CarrierFault, CarrierReply, Traits
from bridge.telephony.jwt import Replays
from bridge.telephony.leg import CarrierLeg, CarrierLine, LegState, Transfer
from bridge.telephony.ringing import RingingCall, sip_headers_of
from bridge.telephony.sign_in import is_one_of
from bridge.wire.audio import G711_ALAW, G711_ULAW, AudioFormat
from bridge.wire.sessions import (
    AudioConfig,
    AudioInput,
    AudioOutput,
    Format,
    PcmaFormat,
    PcmuFormat,
    SessionConfig,
    SessionRequest,
)
from bridge.wire.stats import IncomingOutcome, Transport

__all__ = ["START_TIMEOUT_S", "CarrierCalls", "Trust"]

_log = get_logger("telephony")

START_TIMEOUT_S = 10.0
_MAX_FIRST = 64  # messages before the call is known; most carriers send two
_MOVING = ("server_draining", "server_stopped", "taken_over")
_NEWS_S, _LOOK_S = 0.5, 0.05
_FIRST_NEWS_S = 1.0  # longer than another process takes to tell of a call that has just begun there
_HUNG_UP_S = 60.0  # carriers stop dialling again long before that
_MAX_MESSAGE = 65_536  # characters or bytes; the longest that makes sense is far shorter
_MAX_PARAMETERS = 50
_MAX_SHOWN = 256
_MAX_PARAMETER_CHARS = 4096
_NOTHING = SessionRequest(SessionConfig(), {})
_FORMATS: dict[AudioFormat, Format] = {G711_ULAW: PcmuFormat(), G711_ALAW: PcmaFormat()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Trust:
    """What a connection has shown before its call is known, and what it still has to show."""

    is_admitted: bool = False
    """Whether a secret or a signature was right."""
    needs_token: bool = False
    """Whether the call has to bring a token as well."""
    secrets: tuple[str, ...] = ()
    """The secrets that are good as a token, any number of times."""
    grant: Grant | None = None
    """The rights of whoever asked for this call to be fetched, if the bridge fetched it."""
    session: SessionRequest | None = None
    """The session that whoever asked for the call wants, if any."""
    checks: str = ""
    """What is compared with what the connection shows, for the log: names of settings, and no secret."""


class _Elsewhere(Exception):
    """Another process has the call."""

    def __init__(self, call: MovingCall) -> None:
        super().__init__()
        self.call = call


class CarrierCalls:
    """All telephone calls of one daemon; ``async with`` runs their clock.

    ``on_hang_up`` is called for each call that the bridge has ended, with the name of the carrier, how the call
    started, and the call's context.
    """

    def __init__(
        self,
        settings: TelephonySettings,
        calls: CallService,
        keys: KeyStore,
        *,
        on_hang_up: Callable[[str, CallStarted, CallContext], None],
        transfer: Transfer,
        queue_limit_s: int,
    ) -> None:
        self.clock = Clock()
        self.refused: Counter[str] = Counter()
        """The number of refused connections by carrier and reason, such as ``NAME.invalid_signature``."""
        self.faults: Counter[str] = Counter()
        """The number of faults by kind, of connections that had no call yet."""
        self.replays = Replays()
        """What signing carriers have shown already, and may not show again."""
        self.settings = settings
        """The settings of new calls."""
        self.queue_limit_s = queue_limit_s
        """How much sound a new call may have queued, in seconds."""
        self._calls = calls
        self._keys = keys
        self._on_hang_up = on_hang_up
        self._transfer = transfer
        self._tally = Tally()
        self._legs: dict[tuple[str, str], CarrierLeg] = {}
        self._ringing: dict[tuple[str, str], RingingCall] = {}
        """The calls that wait to be accepted."""
        self._hung_up: dict[tuple[str, str], float] = {}
        """The times at which the bridge ended calls of carriers that will try to connect them again."""
        self._answering: WeakValueDictionary[tuple[str, str], asyncio.Lock] = WeakValueDictionary()

    def apply(self, settings: TelephonySettings, *, queue_limit_s: int) -> None:
        """Gives new calls these settings from now on."""
        self.settings = settings
        self.queue_limit_s = queue_limit_s

    async def __aenter__(self) -> "CarrierCalls":
        await self.clock.__aenter__()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        for ringing in tuple(self._ringing.values()):
            ringing.settle(IncomingOutcome.STOPPED)
        await self.clock.__aexit__()

    @property
    def running(self) -> Counter[str]:
        """The number of running calls by dialect."""
        return Counter(name for name, _ in self._legs)

    def is_running(self, carrier: str, call: str) -> bool:
        """Returns whether the carrier's call with this id, which is the carrier's, is here."""
        return (carrier, call) in self._legs

    def find(self, call_id: str) -> CarrierLeg:
        """Returns the leg of the call with this id, which is the bridge's.

        Raises ``UnknownCall`` if no telephone call has it.
        """
        for leg in self._legs.values():
            if leg.context.call_id == call_id:
                return leg
        raise UnknownCall("There is no telephone call with this ID.", param="call_id")

    @property
    def waiting(self) -> Counter[str]:
        """The number of calls that wait to be accepted, by dialect."""
        return Counter(name for name, _ in self._ringing)

    async def answer(
        self, line: CarrierLine, started: CallStarted, trust: Trust, scope: Mapping[str, Any] | None = None
    ) -> CarrierLeg | RingingCall:
        """Returns the leg of the call: a new one, or the one that had lost its connection; raises ``BridgeError``.

        A call that has to be accepted first has no leg yet: this returns its ``RingingCall``. Raises ``_Elsewhere`` if
        another process has the call.
        """
        key = (line.dialect.name, started.call)
        async with self._answering.setdefault(key, asyncio.Lock()):  # if a call has two connections, only one opens it
            moving = None if key in self._legs or key in self._ringing else await self._find_moving(key)
            if moving is not None and moving.is_elsewhere:
                await self._require_dead(moving, scope)
                moving = await self._find_moving(key)
            grant, is_proved = await self._admit(started, self._legs.get(key), trust, moving)
            started = replace(started, is_proved=is_proved)
            if is_proved:
                self._drop_unproved(key)
            if key in self._ringing:
                raise Forbidden("This call is already here, waiting to be accepted.", code="call_taken")
            leg = self._legs.get(key)
            if leg is None and moving is not None:
                call = await moving.take_over(comes_back=line.comes_back(started))
                leg = None if call is None else self._new_leg(key, line, started, call)
            if leg is None and (moving is not None or grant.only_returns):
                raise Forbidden("This call is over.", code="call_over")
            if leg is None:
                self._require_new(key)
                terms = self._terms(grant, started, trust.session, line)
                if trust.grant is None and self.settings.has_to_wait(key[0]):  # a call with a grant was asked for
                    return await self._ring(key, line, started, terms)
                comes_back = line.comes_back(started)
                call = await self._calls.open_with_carrier(terms, Transport(key[0]), comes_back=comes_back)
                leg = self._new_leg(key, line, started, call)
        if (leg.input_format, leg.output_format) != (started.audio_format, started.output_format):
            raise BadRequest("The call came back in a different format.", code="format_changed")
        leg.connect(line)
        return leg

    def _drop_unproved(self, key: tuple[str, str]) -> None:
        """Ends a call that only claims to be this one, so that it gets nothing of the one that has proved it."""
        leg, ringing = self._legs.get(key), self._ringing.get(key)
        if leg is not None and not leg.started.is_proved:
            leg.hang_up("call_taken")
        if ringing is not None and not ringing.started.is_proved:
            ringing.settle(IncomingOutcome.HUNG_UP)

    async def _require_dead(self, moving: MovingCall, scope: Mapping[str, Any] | None) -> None:
        """Raises ``_Elsewhere`` if the process that the call is for lives; it judges what the connection shows."""
        if scope is None:
            raise Forbidden(
                "Another process has this call, and this connection cannot be passed on to it.", code="call_taken"
            )
        if await moving.reach(scope):
            raise _Elsewhere(moving)

    async def _find_moving(self, key: tuple[str, str]) -> MovingCall | None:
        """Returns the call as another process has or had it. It is new if nobody can say."""
        finder = self._calls.carrier_calls
        if finder is None:
            return None
        try:
            return await finder.find_carrier_call(Transport(key[0]), key[1])
        except CannotCheck:
            return None

    async def is_awaited(self, carrier: str, call: str) -> bool:
        """Returns whether the carrier's call with this id goes on, here or elsewhere, if it is streamed here again.

        The process that has the call tells others of its beginning and of its end a little later, so this waits for a
        moment.
        """
        key = (carrier, call)
        if key in self._ringing:
            return False  # it was dismissed by whoever has closed its stream
        await self._hear_of(key)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_NEWS_S):
                while key not in self._legs:
                    moving = await self._find_moving(key)
                    if moving is None or not moving.is_running:
                        return moving is not None
                    await asyncio.sleep(_LOOK_S)
        return True

    async def _hear_of(self, key: tuple[str, str]) -> None:
        """Returns as soon as anything is known of a call that its carrier says to have; after a while at the latest."""
        finder = self._calls.carrier_calls
        if finder is None or self._was_hung_up(key):
            return
        with contextlib.suppress(TimeoutError, CannotCheck):
            async with asyncio.timeout(_FIRST_NEWS_S):
                while key not in self._legs:
                    if await finder.has_heard_of(Transport(key[0]), key[1]):
                        return
                    await asyncio.sleep(_LOOK_S)

    def _require_new(self, key: tuple[str, str]) -> None:
        if self._was_hung_up(key):
            raise Forbidden("This call was hung up.", code="call_over")

    def _was_hung_up(self, key: tuple[str, str]) -> bool:
        return self._hung_up.get(key, -inf) > self.clock.now - _HUNG_UP_S

    async def _ring(self, key: tuple[str, str], line: CarrierLine, started: CallStarted, terms: Terms) -> RingingCall:
        """Announces a call that waits to be accepted, and returns it."""

        def answered(call: CarrierCall) -> CarrierLeg:
            del self._ringing[key]
            line.write_messages(line.dialect.encode_answer())
            leg = self._new_leg(key, line, started, call)
            leg.connect(line)
            return leg

        def dismissed(ringing: RingingCall, outcome: IncomingOutcome) -> None:
            del self._ringing[key]
            if outcome is not IncomingOutcome.CALLER_HUNG_UP:
                self._remember(key, started, line.dialect.traits)
                if outcome is not IncomingOutcome.REFERRED:
                    self._on_hang_up(key[0], started, ringing.context)

        ringing = RingingCall(
            line,
            started,
            self.clock,
            calls=self._calls.incoming.waiting,
            transfer=self._transfer,
            on_answered=answered,
            on_dismissed=dismissed,
        )
        wait_s = self.settings.incoming_wait_s
        headers = sip_headers_of(started)
        waiting = await self._calls.incoming.announce(
            terms, Transport(key[0]), ringing, sip_headers=headers, wait_s=wait_s
        )
        self._ringing[key] = ringing
        ringing.begin_wait(waiting, wait_s)
        return ringing

    def _new_leg(self, key: tuple[str, str], line: CarrierLine, started: CallStarted, call: CarrierCall) -> CarrierLeg:
        leg = self._legs[key] = CarrierLeg(
            started,
            call.owner,
            self.clock,
            context=call.context,
            traits=line.dialect.traits,
            grace_s=self.settings.carrier_grace_s,
            limit_s=self.queue_limit_s,
            on_closed=lambda closed: self._forget(key, closed),
            transfer=self._transfer,
            moves=partial(self._moves, comes_back=line.comes_back(started)),
        )
        call.attach_leg(leg)
        return leg

    def _moves(self, reason: str, *, comes_back: bool) -> bool:
        """Whether a call that ends for this reason goes on in another process.

        If another one has taken it already, that is so even if the carrier was not expected to come back.
        """
        return self._calls.carrier_calls is not None and (reason == "taken_over" or (comes_back and reason in _MOVING))

    async def carry(
        self,
        line: CarrierLine,
        receive: Receive,
        trust: Trust,
        *,
        on_answered: Callable[[CallContext], None] | None = None,
        scope: Mapping[str, Any] | None = None,
    ) -> None:
        """Serves one WebSocket from its first message to its last.

        ``scope`` is the ASGI scope of its request; without it, the connection cannot be passed on to another process.
        """
        leg: CarrierLeg | RingingCall | None = None
        is_hang_up = False
        call = ""
        first: list[str | bytes] = []  # the messages before the call is known
        moving: MovingCall | None = None
        try:
            async with asyncio.timeout(START_TIMEOUT_S) as start:
                while (message := await receive()) is not None:
                    if len(message) > _MAX_MESSAGE:
                        self.faults["message_too_big"] += 1
                        continue
                    if leg is None:
                        del first[_MAX_FIRST - 1 :]  # the last one is kept, because it may be what starts the call
                        first.append(message)
                    for event in line.dialect.decode_message(message):
                        if isinstance(event, CarrierReply):
                            line.write_messages(list(event.messages))
                        elif leg is not None:
                            leg.handle_event(line, event)
                        elif isinstance(event, CallStarted):
                            call = event.call
                            leg = await self.answer(line, event, trust, scope)
                            leg.context.bind_task()
                            start.reschedule(None)
                            if on_answered is not None:
                                on_answered(leg.context)
                        elif isinstance(event, CarrierFault):
                            self.faults[event.what] += 1
            is_hang_up = True
        except TimeoutError:
            late = RequestError(f"No call was started within {START_TIMEOUT_S:g} s.", code="start_timeout")
            self._turn_away(line, late, trust, call)
        except ConnectionError:
            pass
        except _Elsewhere as found:
            moving = found.call
        except BridgeError as error:
            self._turn_away(line, error, trust, call)
        finally:
            if leg is not None:
                leg.lost(line, is_hang_up=is_hang_up)
        if moving is not None:
            await moving.pass_on(first, receive, line.connection, judged_within_s=START_TIMEOUT_S)

    def _turn_away(self, line: CarrierLine, error: BridgeError, trust: Trust, call: str) -> None:
        self.refuse(line.dialect.name, error, call=call, sender=line.sender, checks=trust.checks)
        line.close(error.close_code, error.code)

    def refuse(self, carrier: str, error: BridgeError, *, call: str = "", sender: str = "", checks: str = "") -> None:
        """Counts and logs a connection that was not let in. A storm of them is logged once a second.

        ``call`` is the carrier's id of the call, ``sender`` an address, and ``checks`` says what the shown secret was
        compared with (it holds no secret). Whatever is empty is left out.
        """
        self.refused[f"{carrier}.{error.code}"] += 1
        count = self._tally.count_repeat(f"{carrier}.{error.code}", self.clock.now)
        if count is None:
            return
        known = {"carrier_call_id": call[:_MAX_SHOWN], "sender": sender, "checked_against": checks}
        shown = {name: value for name, value in known.items() if value}
        _log.warning(
            "telephony.refused", carrier=carrier, reason=error.code, message=error.message, count=count, **shown
        )

    async def _admit(
        self, started: CallStarted, leg: CarrierLeg | None, trust: Trust, moving: MovingCall | None
    ) -> tuple[Grant, bool]:
        """Returns what the call's token opens, and whether the call is proved; see ``CallStarted.is_proved``.

        Raises ``Unauthorized`` or ``Forbidden``.
        """
        if trust.grant is not None:
            return trust.grant, True
        token = started.token
        if token is None:
            if trust.needs_token or not trust.is_admitted:
                raise Unauthorized("The call has no token.", code="missing_token")
            return Grant(), True
        if is_one_of(token, trust.secrets):
            return Grant(), True
        if leg is not None and leg.started.token is not None and is_one_of(token, (leg.started.token,)):
            return Grant(), trust.is_admitted or leg.started.is_proved  # the call comes back with its own token
        if moving is not None and moving.is_opened_by(token):
            return Grant(), True
        taken = Forbidden("This call is already here, and it came with a different token.", code="call_taken")
        is_proved_there = moving is not None or (leg is not None and leg.started.is_proved)
        if is_proved_there and not trust.is_admitted and not await self._names_call(token, started.call):
            raise taken
        grant = await redeem_telephone_key(self._keys, token)
        is_proved = trust.is_admitted or grant.carrier_call_id == started.call
        if leg is not None and not is_proved:
            raise taken
        return grant, is_proved

    async def _names_call(self, token: str, call: str) -> bool:
        """Returns whether the key with this token was minted for this call."""
        minted = await self._keys.find(token)
        return minted is not None and minted.grant.carrier_call_id == call

    def _terms(self, grant: Grant, started: CallStarted, session: SessionRequest | None, line: CarrierLine) -> Terms:
        given = {
            name: value
            for name, value in started.parameters.items()
            if len(value) <= _MAX_PARAMETER_CHARS and name != RETURN_PARAMETER
        }
        chosen: dict[str, Any] = {name: given[name] for name in self.settings.carrier_parameters if name in given}
        inbound = _FORMATS.get(started.audio_format, UNSET)
        outbound = inbound if started.answer_format is None else _FORMATS.get(started.answer_format, UNSET)
        audio = AudioConfig(
            input=AudioInput(format=inbound),
            output=AudioOutput(format=outbound, voice=chosen.pop("voice", UNSET)),
        )
        metadata = {
            **grant.metadata,
            **dict(list(given.items())[:_MAX_PARAMETERS]),
            "carrier_call_id": started.call[:256],
        }
        return Terms(
            config=grant.config,
            update=(session or _NOTHING).with_update(SessionRequest.of(SessionConfig(audio=audio, **chosen))),
            key_id=grant.key_id,
            max_duration_s=grant.max_duration_s,
            idle_timeout_s=grant.idle_timeout_s,
            metadata=metadata,
            trace=TraceContext.of(metadata) or line.trace,
            dtmf_items=self.settings.dtmf_items,
            caller=line.sender,
            carrier_ids={name: value[:_MAX_SHOWN] for name, value in started.ids.items() if value},
            secrets=() if started.token is None else (started.token,),
            carrier_call=started.call if started.is_proved else "",
            token_digests=(token_digest(started.token),) if grant.is_minted and started.token else (),
        )

    def _forget(self, key: tuple[str, str], leg: CarrierLeg) -> None:
        if self._legs.get(key) is leg:
            del self._legs[key]
        if leg.state is not LegState.MOVED:
            self._remember(key, leg.started, leg.audio.traits)
        if leg.state not in (LegState.ENDED, LegState.MOVED):
            self._on_hang_up(key[0], leg.started, leg.context)

    def _remember(self, key: tuple[str, str], started: CallStarted, traits: Traits) -> None:
        """Notes that a call is over, if its carrier might connect it again."""
        if traits.redials and started.is_proved:
            now = self.clock.now
            self._hung_up = {known: at for known, at in self._hung_up.items() if at > now - _HUNG_UP_S}
            self._hung_up[key] = now
