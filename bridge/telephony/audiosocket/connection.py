"""AudioSocket's port: Asterisk connects and says which call it is, and then gets a frame every 20 ms."""

import asyncio
from collections import deque
from dataclasses import replace
from typing import cast

from bridge.api.gate import Gate, GateEntry
from bridge.context import address_of
from bridge.errors import BridgeError, Draining, OverLimit, RequestError
from bridge.log import get_logger
from bridge.media.pacer import FRAME_MS
from bridge.telephony.audiosocket.dialect import AudioSocket, Splitter
from bridge.telephony.carrier_calls import START_TIMEOUT_S, CarrierCalls, Trust
from bridge.telephony.dialect import CallStarted, CarrierEvent, CarrierFault
from bridge.telephony.leg import CarrierLeg, CarrierLine
from bridge.telephony.ringing import RingingCall
from bridge.telephony.tcp import notice_death
from bridge.turns import Work
from bridge.wire.audio import pcm16_at
from bridge.wire.ids import new_id

__all__ = ["AudioSocketConnection"]

_log = get_logger("telephony")

_CLOSE_DEADLINE_S = 2.0
_SLICE_BYTES = 2048  # some 680 of the smallest frames
_SILENCE = bytes(pcm16_at(8000).size_of(FRAME_MS))


class AudioSocketConnection(asyncio.Protocol):
    """One TCP connection. All its work happens in its callbacks."""

    def __init__(self, calls: CarrierCalls, trust: Trust, gate: Gate, tasks: asyncio.TaskGroup) -> None:
        self._gate = gate
        self._entry: GateEntry | None = None
        self._unparsed = bytearray()
        self._is_waiting = False
        self._calls = calls
        self._trust = trust
        self._dialect = AudioSocket()
        self._frames = Splitter()
        self._leg: CarrierLeg | RingingCall | None = None
        self._tasks = tasks
        self._answering: asyncio.Task[None] | None = None
        self._due: deque[CarrierEvent] = deque()  # events that wait while a call is being opened

    # It gets silence until there is a call: some versions send nothing before they have got something.

    def tick(self, now: float) -> None:
        """Sends a frame of silence every 20 ms, until there is a call."""
        self.write_messages([self._dialect.encode_sound(_SILENCE)])

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Takes Asterisk's connection."""
        self._transport = cast(asyncio.Transport, transport)
        peername = self._transport.get_extra_info("peername")
        self._line = CarrierLine(self._dialect, self, sender=address_of(peername))
        notice_death(self._transport.get_extra_info("socket"))
        self._start_due = self._calls.clock.call_later(START_TIMEOUT_S, self._start_missed)
        self._calls.clock.add(self)
        self._work = Work(asyncio.get_running_loop())
        self._entry = self._gate.enter(str(peername[0]) if peername else "")
        if self._entry is None:
            self._refuse(OverLimit("There are too many connections without a call.", code="too_many_connections"))

    def data_received(self, data: bytes) -> None:
        """Takes frames, which may be cut anywhere. If they are many, they are read by turns (see ``bridge.turns``)."""
        if len(data) > _SLICE_BYTES or self._unparsed or self._answering is not None or not self._work.begin_in_time():
            self._unparsed += data
            self._parse_later()
            return
        self._take(data)
        self._work.end()

    def _parse_later(self) -> None:
        if self._transport.is_closing():
            self._unparsed.clear()
        elif not self._unparsed:
            if not self._transport.is_reading():
                self._transport.resume_reading()
        elif not self._is_waiting:
            if self._transport.is_reading():
                self._transport.pause_reading()
            if self._answering is None:
                self._is_waiting = True
                self._work.next_turn(self._parse)

    def _parse(self) -> None:
        self._is_waiting = False
        self._work.begin()
        piece = bytes(self._unparsed[:_SLICE_BYTES])
        del self._unparsed[:_SLICE_BYTES]
        self._take(piece)
        self._work.end()
        self._parse_later()

    def _take(self, data: bytes) -> None:
        for frame in self._frames.push(data):
            self._due += self._dialect.decode_message(frame)
        self._take_events()

    def _take_events(self) -> None:
        """Handles all events that are due. Those that follow the start of the call wait until the call is there."""
        while self._due and self._answering is None:
            if self._transport.is_closing():
                self._due.clear()
                return
            self._receive(self._due.popleft())

    def connection_lost(self, error: Exception | None) -> None:
        """Notes that the connection is gone.

        Asterisk hangs up by closing the socket. If sound of the bridge's is unread then, the connection is reset.
        """
        self._unparsed.clear()
        self._due.clear()
        self._settle()
        if self._leg is not None:
            self._leg.lost(self._line, is_hang_up=error is None or isinstance(error, ConnectionError))

    # Connection

    def write_messages(self, messages: list[str | bytes]) -> None:
        """Sends all messages at once, because a frame that is cut in two holds up the caller's channel."""
        if not self._transport.is_closing():
            self._transport.write(b"".join(cast(list[bytes], messages)))

    def close(self, code: int, reason: str) -> None:
        """Closes the connection. AudioSocket has no codes for the reason."""
        if not self._transport.is_closing():
            self._transport.close()
            self._calls.clock.call_later(_CLOSE_DEADLINE_S, self._transport.abort)

    @property
    def buffered_bytes(self) -> int:
        """The number of bytes that the kernel has not taken yet."""
        return self._transport.get_write_buffer_size()

    # Inside

    def _receive(self, event: CarrierEvent) -> None:
        if self._leg is not None:
            self._leg.handle_event(self._line, event)
        elif isinstance(event, CallStarted):
            if event.call in self._trust.secrets:  # the dialplan may show this secret for many calls
                event = replace(event, call=new_id("call"))
            answering = self._answer(event)
            try:
                self._answering = self._tasks.create_task(answering)
            except RuntimeError:  # the daemon is closing its carriers
                answering.close()
                self._refuse(Draining("The server is about to stop and accepts no new calls."))
        elif isinstance(event, CarrierFault):
            self._calls.faults[event.what] += 1

    async def _answer(self, started: CallStarted) -> None:
        """Opens the call. Events that came after its first frame are handled once it is there."""
        try:
            self._leg = await self._calls.answer(self._line, started, self._trust)
        except BridgeError as error:
            self._answering = None
            self._refuse(error)
            return
        except Exception as error:  # a fault of one call must not end the others
            self._answering = None
            _log.error("telephony.call_failed", exc_info=error)
            self._refuse(BridgeError(f"{type(error).__name__} while the call was opened"))
            return
        self._answering = None
        self._settle()
        self._take_events()
        self._parse_later()

    def _start_missed(self) -> None:
        self._refuse(
            RequestError(f"Neither a call nor sound arrived within {START_TIMEOUT_S:g} s.", code="start_timeout")
        )

    def _refuse(self, error: BridgeError) -> None:
        self._settle()
        self._calls.refuse(self._dialect.name, error, sender=self._line.sender, checks=self._trust.checks)
        self._line.hang_up(error.code)

    def _settle(self) -> None:
        self._start_due.cancel()
        if self._answering is not None:
            self._answering.cancel()
            self._answering = None
        self._calls.clock.remove(self)
        if self._entry is not None:
            self._entry.leave()
