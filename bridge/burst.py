"""Bursts: packets that come together are handled step by step, and not one by one.

The busier a process is, the more packets wait for it when it looks. If each of them went all its way before the next
one (decrypted, decoded, written for listeners, sent), every step would find the processor's caches full of the other
steps' code and data. So each step is done for all packets of a burst before the next step begins, in the order in which
they came. A packet that comes alone takes the same way at once.

The clock of all peers sends its packets the same way: first all are encoded, then all are encrypted, then all are sent.
"""

import asyncio
from typing import ClassVar, Protocol
from weakref import WeakKeyDictionary

__all__ = ["Burst", "FrameWriter", "MediaReceiver", "PacketSender"]


class MediaReceiver(Protocol):
    """Takes SRTP packets, in three steps. No step raises an exception."""

    def decrypt(self, datagram: bytes, now: float) -> bytes | None:
        """Returns the RTP packet; None if it is to be dropped."""
        ...

    def decode(self, packet: bytes, now: float) -> bytes:
        """Returns the sound that became due; it may be empty."""
        ...

    def deliver(self, sound: bytes) -> None:
        """Gives the sound to whoever wants it."""
        ...


class PacketSender(Protocol):
    """Sends RTP packets, in two steps. No step raises an exception."""

    def encrypt(self, packet: bytes) -> bytes | None:
        """Returns the SRTP packet; None if nothing can be sent any more."""
        ...

    def send(self, sequence: int, datagram: bytes) -> None:
        """Sends the SRTP packet, whose sequence number this is."""
        ...


class FrameWriter(Protocol):
    """Writes WebSocket frames."""

    def write_frame(self, frame: bytes) -> None:
        """Writes a frame, or loses it because the socket is closing."""
        ...


class Burst:
    """What is put off until all packets of a burst are there, from ``begin`` to ``finish``."""

    _of: ClassVar["WeakKeyDictionary[asyncio.AbstractEventLoop, Burst]"] = WeakKeyDictionary()

    def __init__(self) -> None:
        self.is_open = False
        """Whether packets and frames are to be put off."""
        self._received: list[tuple[MediaReceiver, bytes]] = []
        self._soon: list[tuple[MediaReceiver, bytes]] = []
        self._packets: list[tuple[PacketSender, int, bytes]] = []
        self._frames: list[tuple[FrameWriter, bytes]] = []

    @classmethod
    def of(cls, loop: asyncio.AbstractEventLoop) -> "Burst":
        """Returns the burst of this event loop, which has one at a time."""
        burst = cls._of.get(loop)
        if burst is None:
            burst = cls._of[loop] = cls()
        return burst

    def begin(self) -> None:
        """Begins to put off what follows."""
        self.is_open = True

    def add_received(self, receiver: MediaReceiver, datagram: bytes) -> None:
        """Adds an SRTP packet, which ``finish`` gives to its receiver."""
        self._received.append((receiver, datagram))

    def receive_soon(self, receiver: MediaReceiver, datagram: bytes, loop: asyncio.AbstractEventLoop) -> None:
        """Gives an SRTP packet to its receiver as soon as all sockets that have something now were read."""
        self._soon.append((receiver, datagram))
        if len(self._soon) == 1:
            loop.call_soon(self._take_soon, loop)

    def add_packet(self, sender: PacketSender, sequence: int, packet: bytes) -> None:
        """Adds an RTP packet, which ``finish`` sends."""
        self._packets.append((sender, sequence, packet))

    def add_frame(self, writer: FrameWriter, frame: bytes) -> None:
        """Adds a frame, which ``finish`` writes, or ``write_frames`` before."""
        self._frames.append((writer, frame))

    def finish(self, now: float) -> None:
        """Does what was put off, step by step, and what follows from it."""
        try:
            if self._received:
                self._take(now)
        finally:
            self.is_open = False
            try:
                self._send_packets()
            finally:
                self.write_frames()

    def write_frames(self) -> None:
        """Writes the frames that were put off until now, because something has to come after them."""
        if self._frames:
            frames, self._frames = self._frames, []
            for writer, frame in frames:
                writer.write_frame(frame)

    def _take_soon(self, loop: asyncio.AbstractEventLoop) -> None:
        self.begin()
        self._received, self._soon = self._soon, []
        self.finish(loop.time())

    def _take(self, now: float) -> None:
        received, self._received = self._received, []
        packets = [
            (receiver, packet)
            for receiver, datagram in received
            if (packet := receiver.decrypt(datagram, now)) is not None
        ]
        sounds = [(receiver, sound) for receiver, packet in packets if (sound := receiver.decode(packet, now))]
        for receiver, sound in sounds:
            receiver.deliver(sound)

    def _send_packets(self) -> None:
        if self._packets:
            packets, self._packets = self._packets, []
            datagrams = [
                (sender, sequence, datagram)
                for sender, sequence, packet in packets
                if (datagram := sender.encrypt(packet)) is not None
            ]
            for sender, sequence, datagram in datagrams:
                sender.send(sequence, datagram)
