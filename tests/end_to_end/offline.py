"""A spoken turn in a network that ends at loopback: prints what was heard and answered, and the other networks.

Run it in a network namespace of its own: ``unshare --map-root-user --net python -m tests.end_to_end.offline``.
"""

import asyncio
import fcntl
import json
import socket
import struct
import sys

import aioice.ice
import uvloop

from bridge.daemon import Daemon
from bridge.engine.voice import Voice
from tests.end_to_end.real_peer import RealPeer
from tests.settings import config_for_tests

_SIOCSIFFLAGS, _IFF_UP = 0x8914, 0x1  # netdevice(7)
_PAUSE = bytes(2 * 24 * 1000)
_TRANSCRIBED = {"audio": {"input": {"transcription": {"model": "whisper-1"}}}}


def _raise_loopback() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        fcntl.ioctl(probe, _SIOCSIFFLAGS, struct.pack("16sH", b"lo", _IFF_UP))


async def _talk() -> dict[str, list[str]]:
    sound = Voice(seed=0).say("What is twelve plus thirty?") + _PAUSE
    async with Daemon(config_for_tests(engine="auto", engine_seed=0)) as daemon, RealPeer(daemon.url) as peer:
        assert daemon.engine == "local"
        peer.send({"type": "session.update", "session": {"type": "realtime", **_TRANSCRIBED}})
        await peer.until("session.updated")
        await peer.speak(sound)
        await peer.until("output_audio_buffer.stopped")
    completed = peer.of("conversation.item.input_audio_transcription.completed")
    return {
        "heard": [event["transcript"] for event in completed],
        "answered": [event["transcript"] for event in peer.of("response.output_audio_transcript.done")],
        "others": [name for _, name in socket.if_nameindex() if name != "lo"],
    }


def main() -> None:
    """One conversation, as one line of JSON."""
    _raise_loopback()
    aioice.ice.get_host_addresses = lambda use_ipv4, use_ipv6: ["127.0.0.1"]
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        sys.stdout.write(json.dumps(runner.run(_talk())))


if __name__ == "__main__":
    main()
