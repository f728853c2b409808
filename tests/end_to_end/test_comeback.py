"""Who is the call comes back after its connection broke, and the conversation is still there."""

import asyncio
import json
from typing import Any

import pytest
from websockets.exceptions import InvalidStatus

from bridge.daemon import Daemon
from tests.end_to_end.conftest import ServeWith
from tests.end_to_end.event_log import Event, outbound_sound
from tests.end_to_end.real_peer import RealPeer
from tests.end_to_end.sound import match, samples_of
from tests.end_to_end.web import EventSocket, open_socket, request
from tests.machine import scaled

pytestmark = pytest.mark.slow

_TYPED = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "are you there?"}]}
_LONG = {**_TYPED, "content": [{"type": "input_text", "text": "a line\n" * 60}]}


async def _type(socket: EventSocket, item: dict[str, Any] = _TYPED) -> None:
    await socket.send({"type": "conversation.item.create", "item": item})
    await socket.send({"type": "response.create"})


def _break(socket: EventSocket) -> None:
    """The connection is gone, and no word was said."""
    socket.connection.transport.abort()


def _ids(events: list[Event]) -> list[str]:
    return [event["event_id"] for event in events]


async def test_an_owner_comes_back_and_has_missed_nothing(daemon: Daemon) -> None:
    """Broken off in the middle of an answer, it gets what came since, in order, each event once; then it goes on."""
    async with open_socket(daemon.url, "model=m") as owner:
        session_id = owner.events[0]["session"]["id"]
        async with open_socket(daemon.url, f"call_id={session_id}&events=!mcp_list_tools") as witness:
            await _type(owner, _LONG)
            await owner.until("response.output_text.delta")
            _break(owner)
            await owner.closed.wait()
            await witness.until("response.done")
            query = f"session_id={session_id}&after={owner.events[-1]['event_id']}"
            async with open_socket(daemon.url, query, first=None) as again:
                await again.until("response.done")
                await _type(again)
                await again.until("response.done", number=2)
                await witness.until("response.done", number=2)
                assert _ids(owner.events[1:] + again.events) == _ids(witness.events[1:])
                assert daemon.registry.sessions[0].lifetime.state == "connected"


async def test_an_owner_comes_back_to_its_sound(daemon: Daemon, short_pcm: bytes) -> None:
    """Of an answer that was being spoken, the rest is not lost; what is said afterwards is heard."""
    async with open_socket(daemon.url, "model=m") as owner:
        session_id = owner.events[0]["session"]["id"]
        await owner.send(_append(short_pcm))
        await owner.until("response.output_audio.delta")
        _break(owner)
        await owner.closed.wait()
        query = f"session_id={session_id}&after={owner.events[-1]['event_id']}"
        async with open_socket(daemon.url, query, first=None) as again:
            await again.until("response.done")
            sound = outbound_sound(owner.events + again.events)
            assert match(samples_of(sound), samples_of(short_pcm)).correlation > 0.99
            await again.send(_append(short_pcm))
            await again.until("response.done", number=2)


def _append(pcm: bytes) -> dict[str, str]:
    import base64

    return {"type": "input_audio_buffer.append", "audio": base64.b64encode(pcm).decode()}


async def test_of_two_sockets_the_newer_one_counts(daemon: Daemon) -> None:
    """An owner whose old connection still seems to live takes the session over; the old socket is closed."""
    async with open_socket(daemon.url, "model=m") as old:
        session_id = old.events[0]["session"]["id"]
        async with open_socket(daemon.url, f"session_id={session_id}") as new:
            assert await old.close_code() == 1000
            await _type(new)
            await new.until("response.done")


async def test_nobody_comes_back(serve_with: ServeWith) -> None:
    """After the grace time the session ends; an owner that says goodbye is not waited for."""
    async with serve_with(resume_grace_s=0.3) as daemon:
        async with open_socket(daemon.url, "model=m") as owner:
            session = daemon.registry.sessions[0]
            _break(owner)
            await owner.closed.wait()
        async with asyncio.timeout(scaled(5)):
            await session.lifetime.closed.wait()
        assert daemon.registry.sessions == []
    async with serve_with(resume_grace_s=3600) as daemon:
        async with open_socket(daemon.url, "model=m"):
            session = daemon.registry.sessions[0]
        async with asyncio.timeout(scaled(5)):
            await session.lifetime.closed.wait()


@pytest.mark.parametrize(
    ("query", "status", "param"),
    [
        ("session_id=sess_nobody", 404, "session_id"),
        ("session_id={session_id}&after=event_of_another", 400, "after"),
        ("session_id={session_id}&model=m", 400, "model"),
        ("session_id={session_id}&audio=pcm16", 400, "audio"),
    ],
)
async def test_a_way_back_that_leads_nowhere(daemon: Daemon, query: str, status: int, param: str) -> None:
    """What does not fit is said before the upgrade, by its name."""
    async with open_socket(daemon.url, "model=m") as owner:
        query = query.format(session_id=owner.events[0]["session"]["id"])
        with pytest.raises(InvalidStatus) as caught:
            async with open_socket(daemon.url, query):
                pass
        assert caught.value.response.status_code == status
        assert json.loads(caught.value.response.body)["error"]["param"] == param


async def test_a_peer_comes_back(serve_with: ServeWith, short_pcm: bytes) -> None:
    """A lost peer's call is kept; with its resume key another offer goes on in the same conversation."""
    async with serve_with(peer_timeout_s=3) as daemon, RealPeer(daemon.url) as first:
        key = first.reply.headers["bridge-resume-key"]
        first.send({"type": "conversation.item.create", "item": {**_TYPED, "id": "item_kept"}})
        kept = await first.until("conversation.item.done")
        (session,) = daemon.registry.sessions
        async with open_socket(daemon.url, f"call_id={first.call_id}&events=!response") as sideband:
            first.vanish()
            lost = await sideband.until("bridge.call.lost")
            assert (lost["reason"], lost["seconds"]) == ("peer_lost", 30.0)
            path = f"v1/realtime/calls/{first.call_id}?after={kept['event_id']}"
            async with RealPeer(daemon.url, path=path, headers={"Bridge-Resume-Key": key}) as second:
                assert second.call_id == first.call_id
                await second.speak(short_pcm)
                await second.until("output_audio_buffer.stopped")
                second.send({"type": "conversation.item.retrieve", "item_id": "item_kept"})
                found = await second.until("conversation.item.retrieved")
                assert found["item"]["content"] == _TYPED["content"]
                await sideband.until("output_audio_buffer.stopped")
                ours = [
                    e for e in second.events if not e["type"].startswith(("response.", "conversation.item.retrieved"))
                ]
                assert _ids(ours) == _ids(sideband.events[1:])
                assert "bridge.call.resumed" in sideband.types
                assert match(samples_of(second.heard), samples_of(short_pcm)).correlation > 0.8


async def test_a_resume_whose_peer_never_comes(serve_with: ServeWith, offer: str) -> None:
    """An offer that is answered, and then nobody connects, takes nothing from the call that is there."""
    async with serve_with(connect_timeout_s=scaled(2)) as daemon, RealPeer(daemon.url) as peer:
        url = f"{daemon.url}v1/realtime/calls/{peer.call_id}"
        fields = {"Content-Type": "application/sdp", "Bridge-Resume-Key": peer.reply.headers["bridge-resume-key"]}
        before = set(daemon.endpoint.peers)
        reply = await request("POST", url, headers=fields, body=offer)
        assert reply.status == 201
        (other,) = daemon.endpoint.peers - before
        peer.send({"type": "conversation.item.create", "item": _TYPED})
        await peer.until("conversation.item.done")
        async with asyncio.timeout(scaled(10)):
            await other.lifetime.closed.wait()
        peer.send({"type": "conversation.item.create", "item": _TYPED})
        await peer.until("conversation.item.done", number=2)
        repeat = await request("POST", url, headers=fields, body=peer.offer)
        assert (repeat.status, repeat.body) == (201, peer.reply.body), "its own offer again is answered as before"
        peer.send({"type": "conversation.item.create", "item": _TYPED})
        await peer.until("conversation.item.done", number=3)


async def test_a_lost_call_whose_peer_never_comes_either(serve_with: ServeWith, offer: str) -> None:
    """Until the last offer's peer has had its time the call is kept; then it ends as it was lost."""
    settings = {"peer_timeout_s": 1, "connect_timeout_s": 1.5, "resume_grace_s": 0.5}
    async with serve_with(**settings) as daemon, RealPeer(daemon.url) as peer:
        fields = {"Content-Type": "application/sdp", "Bridge-Resume-Key": peer.reply.headers["bridge-resume-key"]}
        (session,) = daemon.registry.sessions
        async with open_socket(daemon.url, f"call_id={peer.call_id}&events=!response") as sideband:
            peer.vanish()
            await sideband.until("bridge.call.lost")
            url = f"{daemon.url}v1/realtime/calls/{peer.call_id}"
            assert (await request("POST", url, headers=fields, body=offer)).status == 201
            posted = session.lifetime.seconds
            closed = await sideband.until("bridge.call.closed")
            assert (closed["result"], closed["reason"]) == ("client_error", "peer_lost")
            assert session.lifetime.seconds - posted > 1


async def test_a_resume_key_is_needed(daemon: Daemon, offer: str) -> None:
    """Who knows only the call's id does not take it over."""
    async with RealPeer(daemon.url) as peer:
        url = f"{daemon.url}v1/realtime/calls/{peer.call_id}"
        headers = {"Content-Type": "application/sdp", "Bridge-Resume-Key": "guessed"}
        reply = await request("POST", url, headers=headers, body=offer)
        assert (reply.status, reply.json["error"]["param"]) == (403, "resume_key")
        peer.send({"type": "conversation.item.create", "item": _TYPED})
        await peer.until("conversation.item.done")
