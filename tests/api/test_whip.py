"""WHIP, held against each MUST of RFC 9725 that is a server's; the words in brackets are its sections."""

import asyncio
import json
import re
from typing import Any

import pytest

from bridge.daemon import Daemon
from tests.end_to_end.conftest import ServeWith
from tests.end_to_end.event_log import inbound_sound
from tests.end_to_end.one_way import one_way_offer, publishing
from tests.end_to_end.sound import match, samples_of
from tests.end_to_end.web import Reply, open_socket, request
from tests.machine import scaled

_KEY = "sk-the-api-key-of-these-tests"
_SDP, _FRAGMENT = "application/sdp", "application/trickle-ice-sdpfrag"
_CANDIDATE = "a=candidate:1 1 udp 2122260223 192.0.2.1 61764 typ host\r\n"
_RESTART = f"a=ice-ufrag:fresh\r\na=ice-pwd:{'n' * 22}\r\n{_CANDIDATE}"
_PAGE = "https://page.example"


@pytest.fixture
async def sendonly() -> str:
    """A publisher's offer."""
    return await one_way_offer("sendonly")


async def ask(
    daemon: Daemon, method: str, path: str = "v1/whip", body: str = "", *, key: str | None = _KEY, **headers: str
) -> Reply:
    """One request; names of headers have ``_`` for ``-``."""
    fields = {name.replace("_", "-"): value for name, value in headers.items()}
    shown = {} if key is None else {"Authorization": f"Bearer {key}"}
    return await request(method, f"{daemon.url}{path}", headers={**shown, **fields}, body=body)


async def publish(daemon: Daemon, offer: str, path: str = "v1/whip", **headers: Any) -> Reply:
    """Posts an offer."""
    return await ask(daemon, "POST", path, offer, **{"Content_Type": _SDP, **headers})


async def minted(daemon: Daemon, session: Any = None, **caps: Any) -> str:
    """A key for clients."""
    body = json.dumps({"bridge": caps, **({} if session is None else {"session": session})})
    return str((await ask(daemon, "POST", "v1/realtime/client_secrets", body)).json["value"])


async def test_an_offer_and_its_answer(serve_with: ServeWith, sendonly: str) -> None:
    """[4.2] 201, ``application/sdp``, a ``Location``; [4.3.1] a strong ``ETag``; [4.4.1] recvonly, rtcp-mux-only."""
    async with serve_with(api_key=(_KEY,)) as daemon:
        reply = await publish(daemon, sendonly)
        answer = reply.body.decode()
        (session,) = daemon.registry.sessions
        assert (reply.status, reply.headers["content-type"]) == (201, _SDP)
        assert reply.headers["location"] == f"/v1/whip/{session.info.id}"
        assert re.fullmatch(r'"[!#-~]+"', reply.headers["etag"])
        assert reply.headers["accept-patch"] == _FRAGMENT
        assert re.findall(r"a=(recvonly|sendonly|sendrecv|inactive)", answer) == ["recvonly"]
        assert "\r\na=rtcp-mux\r\na=rtcp-mux-only\r\n" in answer
        assert "a=end-of-candidates" in answer  # [4.3.2] all of the server's candidates
        assert "link" not in reply.headers
        assert "bridge-resume-key" not in reply.headers


@pytest.mark.parametrize(
    ("change", "headers", "status"),
    [
        ({}, {"Content_Type": "application/json"}, 415),
        ({}, {"Content_Type": ""}, 415),
        ({}, {"Content_Type": "Application/SDP; charset=utf-8"}, 201),
        ({}, {"Accept": "application/json"}, 406),
        ({}, {"Accept": "application/json, text/plain, */*"}, 201),
        ({"v=0": "v=1"}, {}, 400),
        ({"a=ice-pwd": "a=x"}, {}, 400),
        ({"a=sendonly": "a=sendrecv"}, {}, 201),
        ({"a=sendonly": "a=recvonly"}, {}, 400),
        ({"a=sendonly": "a=inactive"}, {}, 400),
        ({"opus/48000/2": "other/48000/2"}, {}, 400),
        ({"a=setup:actpass": "a=setup:active"}, {}, 201),
        ({}, {"key": None}, 401),
        ({}, {"key": "wrong"}, 401),
    ],
)
async def test_what_of_an_offer_is_taken(
    serve_with: ServeWith, sendonly: str, change: dict[str, str], headers: dict[str, Any], status: int
) -> None:
    """[4.2] Another content type or a malformed offer is refused with 4xx; [4.5] a key is asked for, by its scheme."""
    offer = sendonly
    for old, new in change.items():
        assert old in offer
        offer = offer.replace(old, new)
    async with serve_with(api_key=(_KEY,)) as daemon:
        reply = await publish(daemon, offer, **headers)
        assert reply.status == status
        assert len(daemon.registry.sessions) == (status == 201)
        if status == 401:
            assert reply.headers["www-authenticate"].startswith("Bearer")
        elif status == 201:
            assert re.findall(r"a=(recvonly|sendonly|sendrecv|inactive)", reply.body.decode()) == ["recvonly"]


async def test_more_than_one_stream(serve_with: ServeWith) -> None:
    """[4.4.2] Two tracks of sound are refused as a whole; a data channel gives a publisher no way to steer."""
    async with serve_with(api_key=(_KEY,)) as daemon:
        two = await publish(daemon, await one_way_offer("sendonly", sections=2))
        assert (two.status, two.json["error"]["code"]) == (400, "invalid_offer")
        reply = await publish(daemon, await one_way_offer("sendonly", has_channel=True))
        assert re.search(r"m=application 0 ", reply.body.decode())
        (peer,) = daemon.endpoint.peers
        assert peer.negotiation.remote.application is None


async def test_methods(serve_with: ServeWith, sendonly: str) -> None:
    """[4.1] ``GET`` gets 2xx and nothing; [4.2] ``OPTIONS`` is answered, with ``Accept-Post``; the rest is 405."""
    async with serve_with(api_key=(_KEY,), allow_origin=(_PAGE,)) as daemon:
        session = (await publish(daemon, sendonly)).headers["location"].lstrip("/")
        for path, allowed, refused in (
            ("v1/whip", {"GET", "HEAD", "OPTIONS", "POST"}, ("PUT", "PATCH", "DELETE")),
            (session, {"GET", "HEAD", "OPTIONS", "PATCH", "DELETE"}, ("PUT", "POST")),
        ):
            for method in ("GET", "HEAD"):
                reply = await ask(daemon, method, path)
                assert (reply.status, reply.body) == (204, b"")
            for method in refused:
                reply = await ask(daemon, method, path)
                assert (reply.status, set(reply.headers["allow"].split(", "))) == (405, allowed)
            reply = await ask(daemon, "OPTIONS", path, key=None)
            assert (reply.status, set(reply.headers["allow"].split(", "))) == (200, allowed)
            assert (await ask(daemon, "GET", path, key=None)).status == 401
        assert (await ask(daemon, "OPTIONS", key=None)).headers["accept-post"] == _SDP
        for method in ("POST", "PATCH", "DELETE"):
            asks = {"Origin": _PAGE, "Access_Control_Request_Method": method,
                    "Access_Control_Request_Headers": "authorization, content-type, if-match"}  # fmt: skip
            reply = await ask(daemon, "OPTIONS", key=None, **asks)
            assert (reply.status, reply.headers["access-control-allow-origin"]) == (200, _PAGE)
            assert method in reply.headers["access-control-allow-methods"]
            assert reply.headers["accept-post"] == _SDP
        reply = await publish(daemon, sendonly, Origin=_PAGE)
        shown = set(reply.headers["access-control-expose-headers"].split(", "))
        assert {"Location", "ETag", "Link", "Accept-Patch"} <= shown


async def test_patching(serve_with: ServeWith, sendonly: str) -> None:
    """[4.3] 415, 400; [4.3.1] 428, 412; [4.3.2] 204 without a tag; [4.3.3] 200 with a fragment and another tag."""
    async with serve_with(api_key=(_KEY,)) as daemon:
        made = await publish(daemon, sendonly)
        session, tag = made.headers["location"].lstrip("/"), made.headers["etag"]

        async def patch(body: str, condition: str | None, kind: str = _FRAGMENT) -> Reply:
            headers = {"Content_Type": kind} | ({} if condition is None else {"If_Match": condition})
            return await ask(daemon, "PATCH", session, body, **headers)

        for body, condition, kind, status in (
            (_CANDIDATE, None, _FRAGMENT, 428),
            (_CANDIDATE, '"another"', _FRAGMENT, 412),
            (_CANDIDATE, tag, _SDP, 415),
            ("a=candidate:x", tag, _FRAGMENT, 400),
            (_CANDIDATE.replace("udp", "quic"), tag, _FRAGMENT, 204),
            (_CANDIDATE.replace("192.0.2.1", "x.local"), tag, _FRAGMENT, 204),
            ("a=end-of-candidates", tag, _FRAGMENT, 204),
        ):
            reply = await patch(body, condition, kind)
            assert (reply.status, "etag" in reply.headers) == (status, False)
        restarted = await patch(_RESTART, "*")
        assert (restarted.status, restarted.headers["content-type"]) == (200, _FRAGMENT)
        assert restarted.headers["etag"] != tag
        said = re.findall(r"a=(ice-lite|ice-ufrag|ice-pwd|candidate)", restarted.body.decode())
        assert set(said) == {"ice-lite", "ice-ufrag", "ice-pwd", "candidate"}
        assert (await patch(_CANDIDATE, tag)).status == 412
        assert (await patch(_CANDIDATE, restarted.headers["etag"])).status == 204
        assert (await ask(daemon, "DELETE", session, If_Match='"ignored"')).status == 200  # [4.3.1]
        assert (await patch(_CANDIDATE, "*")).status == 404


async def test_the_end(serve_with: ServeWith, sendonly: str) -> None:
    """[4.2] ``DELETE`` ends the session and frees what it has; afterwards there is none."""
    async with serve_with(api_key=(_KEY,)) as daemon:
        path = (await publish(daemon, sendonly)).headers["location"].lstrip("/")
        (session,) = daemon.registry.sessions
        assert (await ask(daemon, "DELETE", path)).status == 200
        async with asyncio.timeout(scaled(10)):
            await session.lifetime.closed.wait()
        assert daemon.registry.sessions == []
        for method in ("DELETE", "GET"):
            assert (await ask(daemon, method, path)).status == 404


async def test_keys_of_publishers(serve_with: ServeWith, sendonly: str) -> None:
    """[4.5.1] A key with role ``publisher`` is good here and nowhere else, for its own sessions; other keys are not."""
    async with serve_with(api_key=(_KEY,), max_calls_per_key=2) as daemon:
        key = await minted(daemon, {"type": "realtime", "instructions": "Be brief."}, role="publisher")
        other = await minted(daemon, role="publisher")
        made = await publish(daemon, sendonly, key=key)
        assert made.status == 201
        (session,) = daemon.registry.sessions
        assert session.state.config.instructions == "Be brief."
        path, call_id = made.headers["location"].lstrip("/"), session.info.id
        assert [(await publish(daemon, sendonly, key=key)).status for _ in range(2)] == [201, 429]
        for role in ("controller", "observer", "agent", "telephone"):
            assert (await publish(daemon, sendonly, key=await minted(daemon, role=role))).status == 403
        for method, door, status in (
            ("GET", "v1/calls", 403),
            ("POST", "v1/realtime/calls", 403),
            ("DELETE", f"v1/realtime/calls/{call_id}", 403),
            ("PATCH", f"v1/realtime/calls/{call_id}", 403),
            ("POST", "v1/realtime/client_secrets", 403),
            ("GET", path, 204),
        ):
            assert (await ask(daemon, method, door, key=key)).status == status
        assert (await ask(daemon, "DELETE", path, key=other)).status == 404
        assert (await ask(daemon, "DELETE", path, key=key)).status == 200
        spent = await minted(daemon, role="publisher", single_use=True)
        assert [(await publish(daemon, sendonly, key=spent)).status for _ in range(2)] == [201, 401]


async def test_relays(serve_with: ServeWith, sendonly: str) -> None:
    """[4.6] TURN servers come as ``Link`` with the answer, and to ``OPTIONS`` with a key, but to no preflight."""
    turn = {"turn_url": ("turn:turn.example:3478", "turns:turn.example:5349"), "turn_secret": "the-secret-of-coturn"}
    async with serve_with(api_key=(_KEY,), allow_origin=(_PAGE,), **turn) as daemon:
        for reply in (await publish(daemon, sendonly), await ask(daemon, "OPTIONS")):
            assert reply.headers["link"].startswith('<turns:turn.example:5349>; rel="ice-server"; username="')
            assert reply.headers["cache-control"] == "no-store"
        asks = {"Origin": _PAGE, "Access_Control_Request_Method": "POST"}
        for reply in (await ask(daemon, "OPTIONS", key=None), await ask(daemon, "OPTIONS", key=None, **asks)):
            assert "link" not in reply.headers


@pytest.mark.parametrize(
    ("query", "status", "kind", "model"),
    [
        ("", 201, "realtime", None),
        ("?model=some-model", 201, "realtime", "some-model"),
        ("?intent=transcription", 201, "transcription", None),
        ("?intent=singing", 400, "", None),
    ],
)
async def test_what_the_url_asks_for(
    serve_with: ServeWith, sendonly: str, query: str, status: int, kind: str, model: str | None
) -> None:
    """A model and an intent, as elsewhere."""
    async with serve_with(api_key=(_KEY,)) as daemon:
        reply = await publish(daemon, sendonly, f"v1/whip{query}")
        assert reply.status == status
        for session in daemon.registry.sessions:
            assert session.state.config.type == kind
            assert model in (None, session.info.model)


async def test_a_publisher_is_heard_and_answered(daemon: Daemon, short_pcm: bytes) -> None:
    """Its sound comes as append events; the answer takes its time although the publisher hears nothing of it."""
    async with publishing(daemon.url) as publisher:
        query = f"call_id={publisher.call_id}&audio=pcm16"
        async with open_socket(daemon.url, query) as listener:
            await publisher.microphone.speak(short_pcm)
            loop = asyncio.get_running_loop()
            await listener.until("output_audio_buffer.started")
            began = loop.time()
            await listener.until("response.done")
            await listener.until("output_audio_buffer.stopped")
            assert loop.time() - began > 1.0  # the parrot repeats more than two seconds
            assert match(samples_of(inbound_sound(listener.events)), samples_of(short_pcm)).correlation > 0.9
            assert [call.role for call in daemon.registry.sessions[0].stats().listeners] == ["controller"]
        (peer,) = daemon.endpoint.peers
        assert peer.stats().sent == 0


async def test_a_publisher_interrupts(daemon: Daemon, short_pcm: bytes) -> None:
    """Who speaks while an answer is played stops it, as any caller does."""
    async with publishing(daemon.url) as publisher:
        async with open_socket(daemon.url, f"call_id={publisher.call_id}") as listener:
            await publisher.microphone.speak(short_pcm)
            await listener.until("output_audio_buffer.started")
            await publisher.microphone.speak(short_pcm[: 2 * 24 * 1000])
            await listener.until("output_audio_buffer.cleared")
            truncated = await listener.until("conversation.item.truncated")
            assert 0 < truncated["audio_end_ms"] < 3000
