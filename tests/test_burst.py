"""Packets that come together are handled step by step, each kind of work for all of them, in their order."""

import asyncio
from dataclasses import dataclass, field

import pytest

from bridge.burst import Burst

Step = tuple[str, str, bytes]


@dataclass
class Party:
    """A receiver, sender and writer that notes what is asked of it."""

    name: str
    steps: list[Step]
    burst: Burst
    refused: bytes = b""
    """What it neither decrypts nor encrypts."""
    silent: bytes = b""
    """The packet by which no sound becomes due."""
    answers: bool = False
    frames: list[bytes] = field(default_factory=list)

    def decrypt(self, datagram: bytes, now: float) -> bytes | None:
        self.steps.append((self.name, "decrypt", datagram))
        return None if datagram == self.refused else datagram

    def decode(self, packet: bytes, now: float) -> bytes:
        self.steps.append((self.name, "decode", packet))
        return b"" if packet == self.silent else packet

    def deliver(self, sound: bytes) -> None:
        self.steps.append((self.name, "deliver", sound))
        if self.answers:
            assert self.burst.is_open
            self.burst.add_packet(self, sound[0], sound)
            self.burst.add_frame(self, sound)

    def encrypt(self, packet: bytes) -> bytes | None:
        self.steps.append((self.name, "encrypt", packet))
        return None if packet == self.refused else packet

    def send(self, sequence: int, datagram: bytes) -> None:
        assert sequence == datagram[0]
        self.steps.append((self.name, "send", datagram))

    def write_frame(self, frame: bytes) -> None:
        self.steps.append((self.name, "write", frame))


def test_each_step_is_done_for_all() -> None:
    """All are decrypted, then all decoded, then delivered; what that sends and writes comes after the last one."""
    steps: list[Step] = []
    burst = Burst()
    one, two = (Party(name, steps, burst, answers=True) for name in "ab")
    burst.begin()
    for party, datagram in ((one, b"1"), (two, b"2"), (one, b"3")):
        burst.add_received(party, datagram)
    assert steps == []
    burst.finish(0.0)
    order = [("a", b"1"), ("b", b"2"), ("a", b"3")]
    kinds = ("decrypt", "decode", "deliver")
    assert steps[:9] == [(name, kind, data) for kind in kinds for name, data in order]
    kinds = ("encrypt", "send", "write")
    assert steps[9:] == [(name, kind, data) for kind in kinds for name, data in order]
    assert not burst.is_open


def test_what_drops_out_goes_no_further() -> None:
    """A packet that is refused is not decoded, one without sound not delivered, one without keys not sent."""
    steps: list[Step] = []
    burst = Burst()
    party = Party("a", steps, burst, refused=b"1", silent=b"2")
    burst.begin()
    for datagram in (b"1", b"2", b"3"):
        burst.add_received(party, datagram)
        burst.add_packet(party, datagram[0], datagram)
    burst.finish(0.0)
    assert [(kind, data) for _, kind, data in steps] == [
        ("decrypt", b"1"), ("decrypt", b"2"), ("decrypt", b"3"), ("decode", b"2"), ("decode", b"3"), ("deliver", b"3"),
        ("encrypt", b"1"), ("encrypt", b"2"), ("encrypt", b"3"), ("send", b"2"), ("send", b"3"),
    ]  # fmt: skip


def test_a_burst_leaves_nothing_for_the_next_one() -> None:
    """Frames that had to be written before the end are not written twice, and neither is anything else."""
    steps: list[Step] = []
    burst = Burst()
    party = Party("a", steps, burst)
    burst.begin()
    burst.add_frame(party, b"1")
    burst.write_frames()
    assert burst.is_open
    burst.add_frame(party, b"2")
    burst.finish(0.0)
    burst.begin()
    burst.finish(0.0)
    assert steps == [("a", "write", b"1"), ("a", "write", b"2")]


@pytest.mark.parametrize("step", ["decrypt", "decode", "deliver", "encrypt", "send"])
def test_whatever_a_step_raises_the_rest_is_written(monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    """A fault of one packet costs no other socket its frames, nor the next burst anything."""
    steps: list[Step] = []
    burst = Burst()
    party = Party("a", steps, burst)

    def fail(*_: object) -> None:
        raise RuntimeError(step)

    burst.begin()
    burst.add_frame(party, b"1")
    burst.add_packet(party, ord("2"), b"2")
    burst.add_received(party, b"3")
    with monkeypatch.context() as patched:
        patched.setattr(party, step, fail)
        with pytest.raises(RuntimeError, match=step):
            burst.finish(0.0)
    assert ("a", "write", b"1") in steps
    assert not burst.is_open
    steps.clear()
    burst.begin()
    burst.add_frame(party, b"4")
    burst.finish(0.0)
    assert steps == [("a", "write", b"4")]


async def test_packets_of_several_sockets_are_one_burst() -> None:
    """What comes before the event loop has its next round is handled together, and what comes later with the next."""
    steps: list[Step] = []
    burst, loop = Burst(), asyncio.get_running_loop()
    party = Party("a", steps, burst)
    for round_of in (b"12", b"34"):
        for number in round_of:
            burst.receive_soon(party, bytes([number]), loop)
        assert not burst.is_open
        await asyncio.sleep(0)
        pair = [bytes([number]) for number in round_of]
        assert steps[-6:] == [("a", kind, data) for kind in ("decrypt", "decode", "deliver") for data in pair]


async def test_an_event_loop_has_one() -> None:
    """Whoever works in a loop finds the same one."""
    loop = asyncio.get_running_loop()
    assert Burst.of(loop) is Burst.of(loop)
