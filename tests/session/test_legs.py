"""A call's leg and the one that is to take its place: only who is connected counts."""

from bridge.errors import PeerLost, PeerNotConnected
from bridge.wire.stats import WEBRTC
from tests.fakes import FakeLeg, FakeSink
from tests.session.stage import MS, PART, Stage


class Changing(Stage):
    """A call whose legs come by ports, as WebRTC's do."""

    def __init__(self) -> None:
        super().__init__(transport=WEBRTC)
        self.first, self.channel = self.offer(), FakeSink()
        self.first.connect(self.channel)

    def offer(self) -> FakeLeg:
        """A leg that is answered, and has still to connect."""
        port = self.session.legs.new_port()
        leg = FakeLeg(port)
        self.session.legs.connect_leg(leg, port)
        return leg


def test_an_offer_alone_changes_nothing() -> None:
    """Until the other leg is connected the present one speaks, hears and has the events."""
    call = Changing()
    second = call.offer()
    call.first.speak(bytes(960))
    call.answer(bytes(100 * MS))
    call.first.say({"type": "response.create"})
    assert (call.upstream.audio, call.first.queued_ms, second.queued_ms) == (bytes(960), 100, 0)
    assert len(call.upstream.events) == 1
    second.speak(bytes(960))
    second.say({"type": "response.create"})
    assert (call.upstream.audio, len(call.upstream.events)) == (bytes(960), 1)
    assert call.first.reason is None


def test_who_connects_takes_over() -> None:
    """The leg that was there hangs up, what it had not played is cut off, and its end is nobody's."""
    call = Changing()
    second, channel = call.offer(), FakeSink()
    call.answer(bytes(100 * MS))
    second.connect(channel)
    assert call.first.reason == "resumed"
    assert channel.types[0] == "session.created"
    assert call.first.queued_ms == 0
    second.speak(bytes(960))
    call.first.speak(b"old" * 320)
    assert call.upstream.audio == bytes(960)
    assert call.ended == 0
    call.answer(bytes(40 * MS), PART)
    assert call.first.queued_ms == 0


def test_who_never_connects_is_forgotten() -> None:
    """The call is as it was, and the next offer is as good as the first."""
    call = Changing()
    call.offer().vanish("peer_not_connected", PeerNotConnected("nobody came"))
    call.first.speak(bytes(960))
    assert (call.upstream.audio, call.ended, call.first.reason) == (bytes(960), 0, None)
    third = call.offer()
    third.connect()
    assert call.first.reason == "resumed"


def test_of_two_offers_the_later_one_counts() -> None:
    """An offer that was answered and is followed by another one is given up."""
    call = Changing()
    second, third = call.offer(), call.offer()
    assert second.reason == "resumed"
    assert call.session.legs.all == [call.first, third]
    third.connect()
    assert call.session.legs.all == [third]


def test_the_present_leg_goes_while_another_one_comes() -> None:
    """A page that closes its old connection before the new one is there keeps its call."""
    call = Changing()
    second = call.offer()
    call.first.vanish("peer_closed")
    assert call.ended == 0
    second.connect(FakeSink())
    second.speak(bytes(960))
    assert (call.upstream.audio, call.ended) == (bytes(960), 0)
    second.vanish("peer_closed")
    assert (call.ended, call.session.lifetime.result) == (1, ("success", "peer_closed"))


def test_nobody_is_left() -> None:
    """If the other leg never connects either, the call ends for the reason for which its own leg had gone."""
    call = Changing()
    second = call.offer()
    call.first.vanish("peer_lost", PeerLost("silence"))
    second.vanish("peer_not_connected", PeerNotConnected("nobody came"))
    assert (call.ended, call.session.lifetime.result) == (1, ("client_error", "peer_lost"))


def test_the_end_ends_both() -> None:
    """A call that is closed hangs up its leg, and the one that was to come."""
    call = Changing()
    second = call.offer()
    call.session.close("hangup")
    assert (call.first.reason, second.reason, call.ended) == ("hangup", "hangup", 1)
