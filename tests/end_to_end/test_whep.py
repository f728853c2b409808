"""Players of a running call: what they hear, in step with the caller, made once, and at nobody's cost."""

import asyncio
from contextlib import AsyncExitStack
from typing import Any

import pytest

from bridge.daemon import Daemon
from bridge.media import opus
from bridge.webrtc.peer import Peer
from tests.end_to_end.conftest import ServeWith
from tests.end_to_end.one_way import Playing, playing, publishing
from tests.end_to_end.real_peer import RealPeer
from tests.end_to_end.sound import PLAYED_LIKENESS, match, samples_of, stretched_likeness
from tests.end_to_end.web import open_socket, request
from tests.machine import scaled

_LIKENESS = 0.9


def _players(daemon: Daemon) -> list[Peer]:
    found = [daemon.players.find(*key) for key in daemon.players.ids]
    return [player.peer for player in found if player is not None and player.peer is not None]


async def _until(holds: Any) -> None:
    """A player's sound has no event of its own."""
    loop = asyncio.get_running_loop()
    limit = loop.time() + scaled(15)
    while not holds():
        assert loop.time() < limit
        await asyncio.sleep(0.02)


async def _play(stack: AsyncExitStack, daemon: Daemon, call_id: str, query: str) -> Playing:
    player = await stack.enter_async_context(playing(daemon.url, f"v1/whep/{call_id}{query}"))
    await _until(lambda: player.connection.connectionState == "connected")
    return player


async def test_each_hears_what_it_has_chosen(daemon: Daemon, short_pcm: bytes) -> None:
    """The caller, the answer, or both; players of a track get the same packets, and the caller hears as always."""
    async with RealPeer(daemon.url) as caller, AsyncExitStack() as stack:
        queries = ("?tracks=input", "?tracks=output", "?tracks=output", "", "?tracks=input,output")
        players = [await _play(stack, daemon, caller.call_id, query) for query in queries]
        stats = daemon.registry.sessions[0].stats()
        assert [listener.role for listener in stats.listeners] == ["peer", *(5 * ["player"])]
        await caller.speak(short_pcm)
        await caller.until("output_audio_buffer.stopped")
        await _until(lambda: all(player.loud_ms > 800 for player in players))
        said = samples_of(short_pcm)
        assert match(players[0].heard, said).correlation > _LIKENESS
        for player in players[1:3]:
            assert stretched_likeness(player.heard, said) > PLAYED_LIKENESS  # a late clock leaves gaps
        both = players[-1].heard
        for _ in ("the caller", "and the answer, which repeats it"):
            lag = match(both, said).lag
            assert stretched_likeness(both, said) > PLAYED_LIKENESS
            both[max(0, lag) : lag + len(said)] = 0
        peers = _players(daemon)
        assert len(peers) == 5
        for peer in peers:
            figures = peer.stats()
            assert figures.passed_on > 50
            assert figures.sent == figures.passed_on  # nothing was encoded for it
            assert (figures.packets, figures.faults) == (0, 0)


async def test_a_published_call_is_played(daemon: Daemon, short_pcm: bytes) -> None:
    """WHIP in, WHEP out: a publisher hears nothing, and whoever plays its call hears it and the answer."""
    async with publishing(daemon.url) as publisher, AsyncExitStack() as stack:
        heard = await _play(stack, daemon, publisher.call_id, "?tracks=input")
        answered = await _play(stack, daemon, publisher.call_id, "?tracks=output")
        async with open_socket(daemon.url, f"call_id={publisher.call_id}") as listener:
            await publisher.microphone.speak(short_pcm)
            await listener.until("output_audio_buffer.stopped")
        for player in (heard, answered):
            await _until(lambda player=player: player.loud_ms > 800)
            assert stretched_likeness(player.heard, samples_of(short_pcm)) > PLAYED_LIKENESS
        assert (await request("DELETE", daemon.url + publisher.session)).status == 200
        await _until(lambda: not daemon.endpoint.peers)
        assert daemon.players.ids == []


async def test_an_answer_is_cut_where_it_was_cut(daemon: Daemon, short_pcm: bytes) -> None:
    """Who interrupts an answer cuts it for players too: they hear no more of it than the ledger says, about."""
    async with RealPeer(daemon.url) as caller, AsyncExitStack() as stack:
        player = await _play(stack, daemon, caller.call_id, "?tracks=output")
        await caller.speak(short_pcm)
        await caller.until("output_audio_buffer.started")
        await _until(lambda: player.loud_ms > 0)
        caller.send({"type": "output_audio_buffer.clear"})
        truncated = await caller.until("conversation.item.truncated")
        await caller.until("response.done")
        await caller.speak(bytes(2 * 24 * 300))
        assert 0 < player.loud_ms <= truncated["audio_end_ms"] + 400


async def test_an_owners_session_is_played(daemon: Daemon, short_pcm: bytes) -> None:
    """Sound that an owner appends faster than time is played in its time, and so is the answer."""
    import base64

    async with open_socket(daemon.url, "model=m") as owner, AsyncExitStack() as stack:
        call_id = owner.events[0]["session"]["id"]
        player = await _play(stack, daemon, call_id, "?tracks=input")
        both = await _play(stack, daemon, call_id, "")
        loop = asyncio.get_running_loop()
        began = loop.time()
        await owner.send({"type": "input_audio_buffer.append", "audio": base64.b64encode(short_pcm).decode()})
        await owner.until("response.done")
        said = samples_of(short_pcm)
        await _until(lambda: min(player.packets, both.packets) > 0.9 * len(said) / 480)
        assert loop.time() - began > 0.8 * len(said) / 24_000
        for each in (player, both):
            assert each.loud_ms > 800
        assert stretched_likeness(player.heard, said) > PLAYED_LIKENESS


async def test_a_dead_player_costs_nobody_anything(serve_with: ServeWith, short_pcm: bytes) -> None:
    """One whose sockets are gone is given up after a while; the other one hears every packet."""
    async with serve_with() as daemon, AsyncExitStack() as stack:
        caller = await stack.enter_async_context(RealPeer(daemon.url))
        alive = await _play(stack, daemon, caller.call_id, "?tracks=input")
        dead = await _play(stack, daemon, caller.call_id, "?tracks=input")
        for transceiver in dead.connection.getTransceivers():
            for protocol in transceiver.sender.transport.transport._connection._protocols:
                protocol.transport.abort()
        _players(daemon)[1].ice.last_authenticated = 0.0  # as if that had been long ago
        await caller.speak(short_pcm)
        await _until(lambda: len(_players(daemon)) == 1)
        await _until(lambda: alive.packets > 0.9 * len(short_pcm) / 960)
        assert match(alive.heard, samples_of(short_pcm)).correlation > _LIKENESS
        assert [each.role for each in daemon.registry.sessions[0].stats().listeners] == ["peer", "player"]


async def test_each_track_is_encoded_once(daemon: Daemon, short_pcm: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many play it: the mix takes one encoding for each 20 ms, and a WebRTC caller's own track none."""
    async with RealPeer(daemon.url) as caller, AsyncExitStack() as stack:
        for query in 3 * ("",) + 3 * ("?tracks=input",):
            await _play(stack, daemon, caller.call_id, query)
        encoded: list[int] = []
        encode = opus.OpusEncoder.encode

        def noted(encoder: opus.OpusEncoder, pcm: bytes) -> bytes:
            encoded.append(id(encoder))
            return encode(encoder, pcm)

        monkeypatch.setattr(opus.OpusEncoder, "encode", noted)
        await caller.speak(short_pcm)
        await caller.until("output_audio_buffer.stopped")
        assert len(set(encoded)) == 2  # the mix, and the answer for the caller
        assert caller.types.count("error") == 0
