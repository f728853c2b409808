"""``PATCH`` of a call: more candidates, an ICE restart, another offer; conditions as RFC 9725 has them."""

import asyncio
import json
import re
from typing import Any

import pytest

from bridge.daemon import Daemon
from tests.end_to_end.conftest import ServeWith
from tests.end_to_end.event_log import inbound_sound
from tests.end_to_end.real_peer import RealPeer
from tests.end_to_end.sound import match, samples_of
from tests.end_to_end.web import Reply, open_socket, request
from tests.machine import scaled

_FRAGMENT, _SDP = "application/trickle-ice-sdpfrag", "application/sdp"
_CANDIDATE = "a=candidate:1 1 udp 2122260223 192.0.2.1 61764 typ host"
_FRESH = ("fresh", "n" * 22)


def _credentials(offer: str) -> str:
    return "\r\n".join(re.findall(r"a=ice-(?:ufrag|pwd):\S+", offer)[:2])


_RESTART = f"a=ice-ufrag:{_FRESH[0]}\r\na=ice-pwd:{_FRESH[1]}\r\n{_CANDIDATE}\r\n"


async def patch(
    daemon: Daemon, call_id: str, body: str, tag: str | None, *, kind: str = _FRAGMENT, **headers: str
) -> Reply:
    """One ``PATCH``, about the ICE session ``tag`` if that is given."""
    fields = {"Content-Type": kind, **({} if tag is None else {"If-Match": tag}), **headers}
    return await request("PATCH", f"{daemon.url}v1/realtime/calls/{call_id}", headers=fields, body=body)


async def test_candidates_and_their_conditions(daemon: Daemon) -> None:
    """Candidates get 204 and no tag; a request that names no ICE session gets 428, another one than there is 412."""
    async with RealPeer(daemon.url) as peer:
        assert peer.reply.headers["accept-patch"] == f"{_FRAGMENT}, {_SDP}"
        tag = peer.reply.headers["etag"]
        assert re.fullmatch(r'"[!#-~]+"', tag)
        same = _credentials(peer.offer)
        for condition, body, status in (
            (tag, f"{same}\r\n{_CANDIDATE}\r\n", 204),
            (tag, f"{_CANDIDATE}\r\na=end-of-candidates\r\n", 204),
            (f'"other", {tag}', same, 204),
            ("*", same, 204),
            ('"*"', same, 204),
            (None, same, 428),
            ('"other"', same, 412),
            (f"W/{tag}", same, 412),
            (tag.strip('"'), same, 412),
            ('"other"', _RESTART, 412),
            (None, _RESTART, 428),
            (tag, "a=candidate:nonsense", 400),
            (tag, "what is this", 400),
        ):
            reply = await patch(daemon, peer.call_id, body, condition)
            assert (reply.status, "etag" in reply.headers) == (status, False), (condition, body)
            assert (reply.body == b"") is (status == 204)
        for kind in ("application/json", "text/plain", ""):
            reply = await patch(daemon, peer.call_id, same, tag, kind=kind)
            assert (reply.status, reply.json["error"]["code"]) == (415, "unsupported_media_type")


async def test_an_ice_restart(daemon: Daemon, short_pcm: bytes) -> None:
    """New credentials are answered with ours, and with another tag; the old way works until the peer has come anew."""
    async with RealPeer(daemon.url) as peer:
        old = peer.reply.headers["etag"]
        reply = await patch(daemon, peer.call_id, _RESTART, "*")
        new = reply.headers["etag"]
        assert (reply.status, reply.headers["content-type"], new != old) == (200, _FRAGMENT, True)
        answer = reply.body.decode()
        assert answer.startswith("a=ice-lite\r\n")
        assert "a=candidate:" in answer
        assert answer.endswith("a=end-of-candidates\r\n")
        (ufrag,), (pwd,) = re.findall(r"a=ice-ufrag:(\S+)", answer), re.findall(r"a=ice-pwd:(\S+)", answer)
        assert (await patch(daemon, peer.call_id, _RESTART, "*")).status == 204  # it is that ICE session now
        assert (await patch(daemon, peer.call_id, _CANDIDATE, old)).status == 412
        assert (await patch(daemon, peer.call_id, _CANDIDATE, new)).status == 204
        late = await patch(daemon, peer.call_id, _credentials(peer.offer), "*")
        assert (late.status, late.json["error"]["param"]) == (412, "ice-ufrag")
        sctp = peer._connection.sctp
        assert sctp is not None
        connection = sctp.transport.transport._connection
        connection._local_username, connection._local_password = _FRESH
        connection.remote_username, connection.remote_password = ufrag, pwd
        pair = connection._nominated[1]
        check = connection.build_request(pair, nominate=True)
        await pair.protocol.request(check, pair.remote_addr, integrity_key=pwd.encode())
        assert (await patch(daemon, peer.call_id, _CANDIDATE, new)).status == 204
        await peer.speak(short_pcm)
        await peer.until("response.done")


async def test_another_offer_of_the_same_peer(daemon: Daemon) -> None:
    """It is answered in place, also without a condition; one of another peer is refused, and says where it may go."""
    async with RealPeer(daemon.url) as peer:
        held = peer.offer.replace("a=sendrecv", "a=sendonly")
        for tag in (None, peer.reply.headers["etag"]):
            reply = await patch(daemon, peer.call_id, held, tag, kind=_SDP)
            assert (reply.status, reply.headers["content-type"]) == (200, _SDP)
            assert "a=recvonly" in reply.body.decode()
        restarted = re.sub(r"a=ice-ufrag:\S+", "a=ice-ufrag:fresh", held)
        reply = await patch(daemon, peer.call_id, restarted, None, kind=_SDP)
        assert reply.headers["etag"] != peer.reply.headers["etag"]
        assert (await patch(daemon, peer.call_id, held, peer.reply.headers["etag"], kind=_SDP)).status == 412
        other = re.sub(r"o=- \d+", "o=- 1", peer.offer)
        reply = await patch(daemon, peer.call_id, other, None, kind=_SDP)
        assert (reply.status, reply.json["error"]["code"]) == (400, "invalid_offer")
        assert "Bridge-Resume-Key" in reply.json["error"]["message"]
        assert len(daemon.registry.sessions) == 1


async def test_whose_call_it_is(serve_with: ServeWith, offer: str) -> None:
    """Keys for other calls, attaching or listening patch nothing; a call without a peer is patched by nobody."""
    async with serve_with(api_key=("sk-key",)) as daemon:
        api = {"Authorization": "Bearer sk-key"}
        made = await request(
            "POST", f"{daemon.url}v1/realtime/calls", headers={**api, "Content-Type": _SDP}, body=offer
        )
        call_id, tag = made.headers["location"].rpartition("/")[2], made.headers["etag"]

        async def key(**caps: Any) -> dict[str, str]:
            body = json.dumps({"bridge": caps})
            reply = await request("POST", f"{daemon.url}v1/realtime/client_secrets", headers=api, body=body)
            return {"Authorization": f"Bearer {reply.json['value']}"}

        for headers, status in (
            (await key(), 404),
            (await key(call_id=call_id), 403),
            (await key(role="observer", call_id=call_id), 403),
            ({}, 401),
            (api, 204),
        ):
            assert (await patch(daemon, call_id, _CANDIDATE, tag, **headers)).status == status
        assert (await patch(daemon, "rtc_nobody", _CANDIDATE, tag, **api)).status == 404
        async with open_socket(daemon.url, "model=m", additional_headers=api):
            own = daemon.registry.sessions[-1].info.id
            reply = await patch(daemon, own, _CANDIDATE, "*", **api)
            assert (reply.status, reply.json["error"]["param"]) == (400, "call_id")


@pytest.mark.parametrize("body", [b"", b"\xff", b"a=x\n" * 20_000], ids=["empty", "no text", "too long"])
async def test_odd_bodies(daemon: Daemon, offer: str, body: bytes) -> None:
    """Nothing to say is fine; what is no text, or too much, is refused."""
    made = await request("POST", f"{daemon.url}v1/realtime/calls", headers={"Content-Type": _SDP}, body=offer)
    call_id = made.headers["location"].rpartition("/")[2]
    fields = {"Content-Type": _FRAGMENT, "If-Match": "*"}
    reply = await request("PATCH", f"{daemon.url}v1/realtime/calls/{call_id}", headers=fields, body=body)
    assert reply.status == (400 if body else 204)


async def test_a_page_gets_its_microphone_later(daemon: Daemon, short_pcm: bytes) -> None:
    """A call that began with events alone gets sound by another offer of its peer, both ways, and is the same call."""
    async with RealPeer(daemon.url, has_sound=False) as peer:
        async with open_socket(daemon.url, f"call_id={peer.call_id}&audio=pcm16") as listener:
            offer = await peer.offer_sound()
            reply = await patch(daemon, peer.call_id, offer, None, kind=_SDP)
            assert reply.status == 200, reply.body
            await peer.take_answer(reply.body.decode())
            async with asyncio.timeout(scaled(20)):
                await peer.speak(short_pcm)
            await listener.until("response.done")
            assert match(samples_of(inbound_sound(listener.events)), samples_of(short_pcm)).correlation > 0.9
