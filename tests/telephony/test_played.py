"""A telephone call is played by WHEP as any other: the caller's sound, and the answer."""

import asyncio
from contextlib import AsyncExitStack

import pytest

from bridge.daemon import Daemon
from tests.end_to_end.conftest import _peers_use_loopback
from tests.end_to_end.one_way import playing
from tests.end_to_end.sound import PLAYED_LIKENESS, samples_of, stretched_likeness
from tests.machine import scaled
from tests.telephony.calling import calling, dialling, session_of

__all__ = ["_peers_use_loopback"]

pytestmark = pytest.mark.slow


async def test_a_telephone_is_played(open_daemon: Daemon, short_pcm: bytes) -> None:
    """Each track is heard by who has chosen it, in its time."""
    async with calling(dialling(open_daemon, "twilio")) as caller, AsyncExitStack() as stack:
        session = await session_of(open_daemon, caller)
        players = []
        for tracks in ("input", "output"):
            path = f"v1/whep/{session.info.id}?tracks={tracks}"
            players.append(await stack.enter_async_context(playing(open_daemon.url, path)))
        caller.say(short_pcm)
        await caller.hear_answer()
        async with asyncio.timeout(scaled(20)):
            while any(player.loud_ms < 800 for player in players):  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        for player in players:
            assert stretched_likeness(player.heard, samples_of(short_pcm)) > PLAYED_LIKENESS
