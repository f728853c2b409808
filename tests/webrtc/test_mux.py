"""Who a datagram belongs to: right checks are answered and open the way, whatever else comes is dropped and counted."""

import asyncio
import itertools
import re
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aioice import stun
from hypothesis import given
from hypothesis import strategies as st

from bridge.burst import Burst
from bridge.errors import ConfigError
from bridge.webrtc.endpoint import Endpoint, local_addresses, media_host
from bridge.webrtc.ice import TCP, Address, Credentials, IceLite, PacketKind, packet_kind
from bridge.webrtc.mux import Mux
from bridge.webrtc.sdp import parse_offer
from tests.machine import scaled
from tests.webrtc.calling import Recorder

PEER: Address = ("192.0.2.7", 40_000)
STRANGER: Address = ("198.51.100.9", 666)
RTP = bytes([0x80, 111]) + bytes(30)
FORGED = bytes([0x80, 111]) + bytes(29) + b"!"
RTCP = bytes([0x80, 200]) + bytes(30)
ALERT = bytes([21, 0xFE, 0xFD]) + bytes(8) + bytes([0, 2, 2, 40])
CLIENT_HELLO = bytes([22, 0xFE, 0xFD]) + bytes(60)


class Wire:
    """A mux with one agent, a clock that is set by hand, and what was sent and received."""

    def __init__(self) -> None:
        self.now = 100.0
        self.sent: list[tuple[bytes, Address]] = []
        self.media: list[tuple[PacketKind, bytes]] = []
        self.steps: list[tuple[str, bytes]] = []
        self.mux = Mux(lambda: self.now)
        self.mux.connection_made(self)  # type: ignore[arg-type]
        self.agent = self.new_agent()

    def new_agent(self) -> IceLite:
        agent = self.mux.new_agent()
        agent.attach(self)
        return agent

    # As the RTP session of each agent

    def receive_srtp(self, kind: PacketKind, datagram: bytes, now: float) -> bool:
        self.media.append((kind, datagram))
        return datagram != FORGED

    def decrypt(self, datagram: bytes, now: float) -> bytes | None:
        return datagram if self.receive_srtp(PacketKind.RTP, datagram, now) else None

    def decode(self, packet: bytes, now: float) -> bytes:
        self.steps.append(("decode", packet))
        return packet

    def deliver(self, sound: bytes) -> None:
        self.steps.append(("deliver", sound))

    def receive(self, datagram: bytes, address: Address = PEER) -> list[bytes]:
        """What the mux sends when it gets ``datagram``."""
        before = len(self.sent)
        self.mux.datagram_received(datagram, address)
        assert all(to == address for _, to in self.sent[before:])
        return [data for data, _ in self.sent[before:]]

    def check(self, address: Address = PEER, **options: Any) -> stun.Message:
        """The answer to a right check."""
        (answer,) = self.receive(bytes(check(self.agent, **options)), address)
        return stun.parse_message(answer)

    @property
    def target(self) -> Address | None:
        """Where the agent sends to."""
        before = len(self.sent)
        self.agent.send_datagram(b"probe")
        return self.sent[before][1] if len(self.sent) > before else None

    # As a transport

    def sendto(self, data: bytes, address: Address) -> None:
        self.sent.append((data, address))

    def is_closing(self) -> bool:
        return False

    def close(self) -> None:
        pass


def check(
    agent: IceLite,
    *,
    ufrag: str | None = None,
    pwd: str | None = None,
    role: str = "ICE-CONTROLLING",
    nominated: bool = False,
) -> stun.Message:
    """A binding request as a full agent sends it (RFC 8445 section 7.2.2)."""
    request = stun.Message(message_method=stun.Method.BINDING, message_class=stun.Class.REQUEST)
    request.attributes["USERNAME"] = f"{agent.ufrag if ufrag is None else ufrag}:their"
    request.attributes["PRIORITY"] = 1_853_824_767
    request.attributes[role] = 0x1122334455667788
    if nominated:
        request.attributes["USE-CANDIDATE"] = None
    request.add_message_integrity((agent.pwd if pwd is None else pwd).encode())
    return request


def attribute(kind: int, value: bytes, *, length: int | None = None) -> bytes:
    return struct.pack("!HH", kind, len(value) if length is None else length) + value + bytes(-len(value) % 4)


def binding(body: bytes, *, length: int | None = None, kind: int = 1) -> bytes:
    """A STUN message with any body."""
    return struct.pack("!HHI12s", kind, len(body) if length is None else length, stun.COOKIE, bytes(12)) + body


@pytest.fixture
def wire() -> Wire:
    return Wire()


# Strangers


@pytest.mark.parametrize("size", [0, 1501, 2000, 9000, 65_507])
@pytest.mark.parametrize("first", [0, 22, 128])
def test_no_datagram_of_no_size(wire: Wire, size: int, first: int) -> None:
    """Empty and oversized datagrams are nothing, from a stranger and from a checked address alike."""
    datagram = (bytes([first]) * size)[:size]
    assert packet_kind(datagram) is None
    wire.check()
    for address in (STRANGER, PEER):
        assert wire.receive(datagram, address) == []
    assert wire.mux.drops == {"unknown_kind": 2}
    assert wire.media == []


@pytest.mark.parametrize("size", [1, 2, 12, 20, 100, 1500])
def test_every_first_byte_from_a_stranger(wire: Wire, size: int) -> None:
    """No datagram of an unchecked address is answered or handed on, and each is counted."""
    for first in range(256):
        assert wire.receive(bytes([first]) + bytes(size - 1), STRANGER) == []
    assert wire.mux.drops.total() == 256
    assert wire.media == []
    assert not wire.agent.dtls


def test_kinds() -> None:
    """RFC 7983's ranges of first bytes, and RFC 5761's of second ones."""
    kinds = [packet_kind(bytes([first, 0]) + bytes(30)) for first in range(256)]
    first = [*[PacketKind.STUN] * 4, *[None] * 16, *[PacketKind.DTLS] * 44, *[None] * 64, *[PacketKind.RTP] * 64]
    assert kinds == [*first, *[None] * 64]
    seconds = [packet_kind(bytes([128, second]) + bytes(30)) for second in range(256)]
    assert [second for second, kind in enumerate(seconds) if kind is PacketKind.RTCP] == list(range(192, 224))
    assert packet_kind(bytes([128]) * 7) is None


@pytest.mark.parametrize("datagram", [RTP, RTCP, ALERT, CLIENT_HELLO], ids=["RTP", "RTCP", "alert", "ClientHello"])
def test_media_needs_a_check_first(wire: Wire, datagram: bytes) -> None:
    """DTLS, RTP and RTCP reach the agent from its checked addresses only, down to the port."""
    wire.check()
    for address in (STRANGER, (PEER[0], PEER[1] + 1), ("192.0.2.8", PEER[1])):
        assert wire.receive(datagram, address) == []
    assert wire.mux.drops == {"unknown_source": 3}
    assert wire.media == []
    assert not wire.agent.dtls
    wire.receive(datagram)
    assert len(wire.media) + len(wire.agent.dtls) == 1


@pytest.mark.parametrize(
    "datagram",
    [
        pytest.param(b"\0", id="one byte"),
        pytest.param(binding(b"")[:19], id="short header"),
        pytest.param(binding(b"", length=4), id="length too long"),
        pytest.param(binding(bytes(8), length=4), id="length too short"),
        pytest.param(binding(attribute(0x0006, b"a", length=400)), id="attribute too long"),
        pytest.param(binding(attribute(0x0006, b"\xff\xfe\xfd\xfc")), id="username no UTF-8"),
        pytest.param(binding(attribute(0x0024, b"\0\0")), id="short PRIORITY"),
        pytest.param(binding(attribute(0x0024, bytes(8))), id="long PRIORITY"),
        pytest.param(binding(attribute(0x802A, bytes(4))), id="short ICE-CONTROLLING"),
        pytest.param(binding(attribute(0x8028, bytes(3))), id="short FINGERPRINT"),
        pytest.param(binding(attribute(0x8028, bytes(4))), id="wrong FINGERPRINT"),
        pytest.param(binding(attribute(0x0020, b"\0")), id="short XOR-MAPPED-ADDRESS"),
        pytest.param(binding(attribute(0x0020, b"\0\x01" + bytes(40))), id="long XOR-MAPPED-ADDRESS"),
        pytest.param(binding(attribute(0x0020, b"\0\x07" + bytes(6))), id="odd family"),
        pytest.param(binding(attribute(0x0009, b"\0")), id="short ERROR-CODE"),
        pytest.param(binding(attribute(0x0008, b"")), id="empty MESSAGE-INTEGRITY"),
        pytest.param(binding(attribute(0x0006, b"x") + b"\0\x08"), id="half an attribute"),
        pytest.param(binding(b"", kind=0x03EF), id="unknown method"),
        pytest.param(binding(b"", kind=0x0101), id="success response"),
        pytest.param(binding(b"", kind=0x0111), id="error response"),
        pytest.param(binding(b"", kind=0x0011), id="indication"),
        pytest.param(binding(b"", kind=0x0003), id="allocate"),
        pytest.param(binding(b""), id="no username"),
    ],
)
def test_malformed_stun(wire: Wire, datagram: bytes) -> None:
    """STUN with wrong lengths, of wrong types or without credentials is dropped, counted, and never answered."""
    wire.check()
    for address in (STRANGER, PEER):
        assert wire.receive(datagram, address) == []
    assert wire.mux.drops.total() == 2
    assert set(wire.agent.addresses) == {PEER}


@pytest.mark.parametrize(
    "options",
    [{"pwd": "wrong"}, {"pwd": ""}, {"ufrag": "nobody"}, {"ufrag": ""}, {"ufrag": "their", "pwd": "wrong"}],
)
def test_wrong_credentials(wire: Wire, options: dict[str, str]) -> None:
    """A check with a wrong password, or for a user that is not there, changes nothing and is not answered."""
    assert wire.receive(bytes(check(wire.agent, nominated=True, **options)), STRANGER) == []
    assert wire.mux.drops == {"unauthenticated_stun": 1}
    assert wire.target is None
    assert not wire.agent.connected.is_set()
    assert not wire.agent.addresses


def test_a_check_without_integrity(wire: Wire) -> None:
    """Knowing the user fragment alone opens nothing."""
    request = stun.Message(message_method=stun.Method.BINDING, message_class=stun.Class.REQUEST)
    request.attributes["USERNAME"] = f"{wire.agent.ufrag}:their"
    assert wire.receive(bytes(request), STRANGER) == []
    assert wire.mux.drops == {"unauthenticated_stun": 1}


def test_nomination_behind_the_integrity_does_not_count(wire: Wire) -> None:
    """What stands behind MESSAGE-INTEGRITY could have been added by anyone on the way."""
    wire.check()
    request = check(wire.agent)
    del request.attributes["FINGERPRINT"]
    forged = bytes(request) + attribute(0x0025, b"")
    forged = stun.set_body_length(forged, len(forged) - stun.HEADER_LENGTH)
    wire.receive(forged, ("192.0.2.8", 5))
    assert wire.target == PEER


@given(datagram=st.binary(max_size=200), first=st.integers(0, 255))
def test_any_datagram(wire: Wire, datagram: bytes, first: int) -> None:
    """No bytes from a stranger raise, are answered or reach an agent."""
    assert wire.receive(bytes([first]) + datagram, STRANGER) == []
    assert wire.receive(binding(datagram), STRANGER) == []
    assert wire.media == []
    assert not wire.agent.addresses


@given(at=st.integers(0, 10_000), value=st.integers(1, 255))
def test_a_check_with_one_byte_changed(wire: Wire, at: int, value: int) -> None:
    """Any change to a right check, but for its unauthenticated end, keeps it from being right."""
    data = bytearray(bytes(check(wire.agent)))
    at %= len(data) - 8  # FINGERPRINT
    data[at] ^= value
    assert wire.receive(bytes(data), STRANGER) == []


# Right checks


@pytest.mark.parametrize(
    ("address", "mapped"),
    [
        (("192.0.2.7", 40_000), ("192.0.2.7", 40_000)),
        (("::ffff:192.0.2.7", 40_000, 0, 0), ("192.0.2.7", 40_000)),
        (("2001:db8::7", 1, 0, 0), ("2001:db8::7", 1)),
        (("fe80::7%eth0", 65_535, 0, 2), ("fe80::7", 65_535)),
    ],
)
def test_a_right_check_is_answered(wire: Wire, address: Address, mapped: tuple[str, int]) -> None:
    """The answer repeats the transaction, names the address that was seen, and carries integrity and fingerprint."""
    request = check(wire.agent)
    (data,) = wire.receive(bytes(request), address)
    answer = stun.parse_message(data)
    assert (answer.message_method, answer.message_class) == (stun.Method.BINDING, stun.Class.RESPONSE)
    assert answer.transaction_id == request.transaction_id
    assert answer.attributes["XOR-MAPPED-ADDRESS"] == mapped
    assert answer.check_message_integrity(wire.agent.pwd.encode())
    assert "FINGERPRINT" in answer.attributes
    assert wire.agent.connected.is_set()
    assert wire.target == address
    assert wire.agent.last_authenticated == wire.now


def test_a_lite_agent_never_controls(wire: Wire) -> None:
    """A peer that says it is controlled is told 487, with integrity, and not connected (RFC 8445 section 7.3.1.1)."""
    answer = wire.check(role="ICE-CONTROLLED")
    assert answer.message_class == stun.Class.ERROR
    assert answer.error_code == 487
    assert answer.check_message_integrity(wire.agent.pwd.encode())
    assert not wire.agent.connected.is_set()
    assert wire.target is None


def test_agents_do_not_mix(wire: Wire) -> None:
    """Each agent's datagrams come from its own addresses, and one agent's password opens no other."""
    other = wire.new_agent()
    wire.check()
    wire.receive(bytes(check(other)), STRANGER)
    wire.receive(ALERT, STRANGER)
    assert (len(wire.agent.dtls), len(other.dtls)) == (0, 1)
    assert wire.receive(bytes(check(other, pwd=wire.agent.pwd)), ("192.0.2.99", 1)) == []


def test_an_address_may_be_used_again(wire: Wire) -> None:
    """The next call from the same address gets its datagrams, also when the first one is forgotten after."""
    other = wire.new_agent()
    wire.check()
    wire.now += 1.1
    wire.receive(bytes(check(other)))
    wire.agent.close()
    wire.receive(ALERT)
    assert len(other.dtls) == 1


def test_an_address_is_not_taken_from_who_is_there(wire: Wire) -> None:
    """A check for another call with the forged address of a live peer does not divert that peer's packets."""
    other = wire.new_agent()
    wire.check()
    assert wire.receive(bytes(check(other))) == []
    wire.receive(ALERT)
    assert (len(wire.agent.dtls), len(other.dtls)) == (1, 0)
    assert wire.mux.drops["address_in_use"] == 1


def test_a_forgotten_agent_is_a_stranger(wire: Wire) -> None:
    """Nothing of an agent is left once it is closed, which may happen twice."""
    wire.check()
    wire.agent.close()
    wire.agent.close()
    assert (wire.mux.agents, wire.mux.by_address) == ({}, {})
    assert wire.receive(bytes(check(wire.agent))) == []
    assert wire.receive(RTP) == []
    assert wire.mux.drops == {"unauthenticated_stun": 1, "unknown_source": 1}


# Moving


def moves() -> Iterator[Address]:
    return ((f"192.0.2.{number % 250}", 41_000 + number) for number in range(10_000))


def test_a_nominated_address_is_followed_at_once(wire: Wire) -> None:
    """The controlling side decides."""
    wire.check()
    wire.check(STRANGER, nominated=True)
    assert (wire.target, wire.agent.moves) == (STRANGER, 1)


def test_tcp_is_not_followed_as_long_as_udp_works(wire: Wire) -> None:
    """A peer that nominates all of its pairs is sent to over UDP, and over TCP once it is silent there, and back."""
    over_tcp = (*STRANGER, TCP)
    wire.agent.checked(over_tcp, nominated=True, now=wire.now)
    wire.check(nominated=True)
    wire.agent.checked(over_tcp, nominated=True, now=wire.now + 0.9)
    assert (wire.agent.address, wire.agent.moves) == (PEER, 1)
    wire.agent.checked(over_tcp, nominated=True, now=wire.now + 1.0)
    assert (wire.agent.address, wire.agent.moves) == (over_tcp, 2)
    wire.check(nominated=True)
    assert (wire.agent.address, wire.agent.moves) == (PEER, 3)


def test_an_address_is_followed_when_the_old_one_is_silent(wire: Wire) -> None:
    """After a NAT's rebinding the peer is where it checks from, but not while it is heard at the old address."""
    wire.check()
    wire.now += 0.9
    wire.receive(RTP)
    wire.now += 0.9
    wire.check(STRANGER)
    assert wire.target == PEER
    wire.now += 0.2
    wire.check(STRANGER)
    assert (wire.target, wire.agent.moves) == (STRANGER, 1)
    wire.receive(RTP)
    assert len(wire.media) == 2, "what was still on its way from the old address is heard"


def test_media_alone_moves_nothing(wire: Wire) -> None:
    """Only a check shows that the peer is behind an address."""
    wire.check()
    wire.now += 60
    wire.receive(RTP, STRANGER)
    assert wire.target == PEER


def test_addresses_are_bounded(wire: Wire) -> None:
    """One peer cannot fill the table of addresses."""
    for _, address in zip(range(1000), moves(), strict=False):
        wire.receive(bytes(check(wire.agent)), address)
    assert len(wire.mux.by_address) <= 16


def test_a_peer_may_move_often(wire: Wire) -> None:
    """A call that lasts an hour is still followed at its hundredth address: the oldest ones make room."""
    for _, address in zip(range(100), moves(), strict=False):
        wire.now += 30
        wire.receive(bytes(check(wire.agent, nominated=True)), address)
        assert wire.target == address


# Consent


def answer_to(request: stun.Message, pwd: str) -> bytes:
    """Success, as a full agent answers a check."""
    response = stun.Message(
        message_method=stun.Method.BINDING,
        message_class=stun.Class.RESPONSE,
        transaction_id=request.transaction_id,
    )
    response.attributes["XOR-MAPPED-ADDRESS"] = PEER
    response.add_message_integrity(pwd.encode())
    response.add_fingerprint()
    return bytes(response)


def asked(wire: Wire, seconds: int) -> list[tuple[float, stun.Message]]:
    """What is sent in so many seconds, and when."""
    found = []
    for _ in range(seconds):
        wire.now += 1
        before = len(wire.sent)
        wire.agent.keep_consent(wire.now)
        found += [(wire.now, stun.parse_message(data)) for data, address in wire.sent[before:] if address == PEER]
    return found


def test_consent_is_asked_for(wire: Wire) -> None:
    """A peer that checks once and never again is asked each 4 to 6 s, and its answer renews its consent."""
    wire.agent.expect("their", "p" * 22)
    wire.check()
    times = [wire.now]
    for _ in range(20):
        (at, request) = asked(wire, 7)[0]
        wire.now = at
        times.append(at)
        assert request.attributes["USERNAME"] == f"their:{wire.agent.ufrag}"
        assert request.check_message_integrity(b"p" * 22)
        assert wire.receive(answer_to(request, "p" * 22)) == []
        assert wire.agent.last_consent == wire.agent.last_authenticated == wire.now
    assert all(4 <= later - earlier <= 7 for earlier, later in itertools.pairwise(times))
    assert wire.mux.drops == {}


def test_consent_is_not_asked_for_too_often(wire: Wire) -> None:
    """A peer that says nothing is asked each 4 to 6 s as well, and one that checks by itself is never asked."""
    wire.agent.expect("their", "p" * 22)
    wire.check()
    assert 5 <= len(asked(wire, 30)) <= 8
    for _ in range(10):
        wire.check()
        assert asked(wire, 3) == []


@pytest.mark.parametrize("wrong", ["password", "address", "transaction"])
def test_consent_is_the_peers_alone(wire: Wire, wrong: str) -> None:
    """An answer with another password, from another address or to no question renews nothing."""
    wire.agent.expect("their", "p" * 22)
    wire.check()
    before = wire.now
    (_, request), *_ = asked(wire, 7)
    if wrong == "transaction":
        request.transaction_id = request.transaction_id[:8] + bytes(4)
    response = answer_to(request, "q" * 22 if wrong == "password" else "p" * 22)
    assert wire.receive(response, STRANGER if wrong == "address" else PEER) == []
    assert wire.agent.last_consent == before
    assert wire.mux.drops == {"other_stun": 1}


def test_before_the_first_check_nobody_is_asked(wire: Wire) -> None:
    """No address is known, and none is guessed."""
    wire.agent.expect("their", "p" * 22)
    assert asked(wire, 30) == []


# Restarts


def with_pair(agent: IceLite, pair: Credentials, *, nominated: bool = False) -> bytes:
    """A check with that pair of the agent's."""
    return bytes(check(agent, ufrag=pair.ufrag, pwd=pair.pwd, nominated=nominated))


def test_until_a_restarted_peer_comes_the_old_way_works(wire: Wire) -> None:
    """Both pairs of credentials are answered, each with its own password, until a check with the new one is used."""
    wire.agent.expect("their", "p" * 22)
    before = wire.agent.credentials
    wire.check()
    renewed = wire.agent.offered("newer", "q" * 22)
    assert (renewed.ufrag, renewed.pwd) != (before.ufrag, before.pwd)
    wire.check()
    assert (wire.target, wire.agent.credentials) == (PEER, before)
    (data,) = wire.receive(with_pair(wire.agent, renewed), STRANGER)
    assert stun.parse_message(data).check_message_integrity(renewed.pwd.encode())
    assert (wire.target, wire.agent.credentials) == (PEER, before), "it is tried, not used"
    wire.receive(with_pair(wire.agent, renewed, nominated=True), STRANGER)
    assert (wire.target, wire.agent.credentials, wire.agent.renewed) == (STRANGER, renewed, None)
    wire.receive(RTP)
    assert len(wire.media) == 1, "what was on its way from the old address is heard"
    assert wire.receive(with_pair(wire.agent, before), PEER) == []
    assert wire.mux.drops == {"unauthenticated_stun": 1}
    assert set(wire.mux.agents) == {renewed.ufrag}


def test_a_restart_in_place(wire: Wire) -> None:
    """A peer that restarts at the address that it has is there at once, and consent is asked for with the new pair."""
    wire.agent.expect("their", "p" * 22)
    wire.check()
    renewed = wire.agent.offered("newer", "q" * 22)
    wire.receive(with_pair(wire.agent, renewed))
    assert wire.agent.credentials == renewed
    (_, request), *_ = asked(wire, 7)
    assert request.attributes["USERNAME"] == f"newer:{renewed.ufrag}"
    assert request.check_message_integrity(b"q" * 22)


def test_the_same_offer_has_the_same_credentials(wire: Wire) -> None:
    """A repeat is answered as before; of several restarts the last one counts; nothing is left at the end."""
    wire.agent.expect("their", "p" * 22)
    assert wire.agent.offered("their", "p" * 22) == wire.agent.credentials
    first = wire.agent.offered("newer", "q" * 22)
    assert wire.agent.offered("newer", "q" * 22) == first
    second = wire.agent.offered("newest", "r" * 22)
    assert set(wire.mux.agents) == {wire.agent.ufrag, second.ufrag}
    assert wire.receive(with_pair(wire.agent, first)) == []
    wire.agent.close()
    assert wire.mux.agents == {}


# The socket


class Client(asyncio.DatagramProtocol):
    """A UDP socket and what it received."""

    def __init__(self) -> None:
        self.received: asyncio.Queue[bytes] = asyncio.Queue()

    def datagram_received(self, data: bytes, addr: Address) -> None:
        self.received.put_nowait(data)


@pytest.mark.parametrize(
    ("bound", "host"), [("127.0.0.1", "127.0.0.1"), ("::1", "::1"), ("::", "::1"), ("::", "127.0.0.1")]
)
async def test_over_the_wire(bound: str, host: str) -> None:
    """Strangers' datagrams of all sizes get no answer, a right check gets one, in IPv4, IPv6 and both on one socket."""
    loop = asyncio.get_running_loop()
    async with Endpoint(bound, 0) as endpoint:
        agent = endpoint.mux.new_agent()
        transport, client = await loop.create_datagram_endpoint(Client, remote_addr=(host, endpoint.port))
        for size in (0, 1, 1500, 1501, 9000, 65_507):
            for first in (0, 22, 128, 255):
                transport.sendto((bytes([first]) * size)[:size])
        transport.sendto(bytes(check(agent)))
        async with asyncio.timeout(scaled(5)):
            answer = stun.parse_message(await client.received.get())
        transport.close()
        assert answer.attributes["XOR-MAPPED-ADDRESS"] == transport.get_extra_info("sockname")[:2]
        assert client.received.empty()
        assert 20 <= endpoint.mux.drops.total() <= 24, "an event loop may swallow empty datagrams itself"


async def test_a_port_in_use() -> None:
    """Two endpoints cannot share a port: the second one does not start, and says which setting it is."""
    async with Endpoint("127.0.0.1", 0) as first:
        with pytest.raises(ConfigError, match="udp_port"):
            async with Endpoint("127.0.0.1", first.port):
                pass


def test_local_addresses() -> None:
    """A socket on one address is reached there; on the wildcard wherever the machine is, loopback last."""
    assert local_addresses("127.0.0.1") == local_addresses("localhost") == ("127.0.0.1",)
    assert local_addresses("::1") == ("::1",)
    everywhere = local_addresses("0.0.0.0")
    assert everywhere[-1].startswith("127.")
    assert not any(":" in address for address in everywhere)


@pytest.mark.parametrize(
    ("host", "advertise", "bound"),
    [
        ("127.0.0.1", (), "0.0.0.0"),
        ("localhost", (), "0.0.0.0"),
        ("::1", (), "::"),
        ("127.0.0.1", ("203.0.113.7",), "0.0.0.0"),
        ("127.0.0.1", ("127.0.0.1",), "127.0.0.1"),
        ("192.0.2.1", (), "192.0.2.1"),
        ("0.0.0.0", ("203.0.113.7",), "0.0.0.0"),
    ],
)
def test_media_is_not_kept_on_loopback(host: str, advertise: tuple[str, ...], bound: str) -> None:
    """A server that is there for this machine alone is reached at all its addresses, unless it is told otherwise."""
    assert media_host(host, advertise) == bound


async def test_a_daemon_on_loopback_offers_every_address() -> None:
    """By default the answer names the machine's own addresses, and loopback behind them."""
    async with Endpoint(media_host("127.0.0.1"), 0) as endpoint:
        assert endpoint.addresses == local_addresses("0.0.0.0")
        offer = parse_offer((Path(__file__).parent / "offers" / "firefox.sdp").read_bytes())
        _, answer = endpoint.accept(offer, Recorder())
        hosts = re.findall(r"a=candidate:\d+ 1 udp \d+ (\S+)", answer)
        assert hosts == 2 * list(endpoint.addresses)
        assert "127.0.0.1" in hosts


def test_a_burst(wire: Wire) -> None:
    """Sound of known peers is handled step by step; whatever else came between is handled at once, as ever."""
    other = wire.new_agent()
    wire.check()
    (answer,) = wire.receive(bytes(check(other)), STRANGER)
    assert stun.parse_message(answer).message_class == stun.Class.RESPONSE
    burst = Burst()
    burst.begin()
    elsewhere: Address = ("203.0.113.5", 7)
    datagrams = [
        (RTP, PEER),
        (RTCP, PEER),
        (RTP + b"2", STRANGER),
        (RTP, elsewhere),
        (CLIENT_HELLO, PEER),
        (FORGED, PEER),
    ]
    wire.mux.receive_burst(datagrams, burst)
    assert wire.media == [(PacketKind.RTCP, RTCP)]
    assert len(wire.agent.dtls) == 1
    assert wire.mux.drops["unknown_source"] == 1
    burst.finish(wire.now)
    assert [datagram for _, datagram in wire.media[1:]] == [RTP, RTP + b"2", FORGED]
    assert wire.steps == [("decode", RTP), ("decode", RTP + b"2"), ("deliver", RTP), ("deliver", RTP + b"2")]


def test_who_speaks_in_bursts_is_there(wire: Wire) -> None:
    """Its address counts as heard: another agent's check from there, an hour after its own, does not take it over."""
    wire.check()
    other = wire.new_agent()
    burst = Burst()
    wire.now += 3600
    burst.begin()
    wire.mux.receive_burst([(RTP, PEER)], burst)
    burst.finish(wire.now)
    assert wire.receive(bytes(check(other)), PEER) == []
    assert wire.mux.drops["address_in_use"] == 1
    wire.now += 3600
    assert len(wire.receive(bytes(check(other)), PEER)) == 1
