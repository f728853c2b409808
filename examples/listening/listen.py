"""Writes what the caller of a call says to a WAV file, prints the names of all other events, and reconnects if need be.

    pip install websockets
    python listen.py ws://127.0.0.1:8080 CALL_ID caller.wav

CALL_ID: the console shows it, `curl http://127.0.0.1:8080/v1/calls` lists all. BRIDGE_API_KEY may hold a key.
"""

import asyncio
import base64
import json
import os
import sys
import wave

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosedError


async def listen(server: str, call_id: str, path: str) -> None:
    """Until the call is over; ``after`` names the last event that came, so that none is missed or comes twice."""
    key, after = os.environ.get("BRIDGE_API_KEY"), ""
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    with wave.open(path, "wb") as file:
        file.setparams((1, 2, 24_000, 0, "NONE", "not compressed"))
        while True:
            choices = f"call_id={call_id}&role=observer&audio=pcm16&tracks=input&latency=balanced{after}"
            async with connect(f"{server}/v1/realtime?{choices}", additional_headers=headers) as socket:
                try:
                    async for message in socket:
                        event = json.loads(message)
                        after = f"&after={event['event_id']}"
                        if event["type"] == "input_audio_buffer.append":
                            file.writeframes(base64.b64decode(event["audio"]))
                        else:
                            print(event["type"], flush=True)
                    return  # closed with 1000: the call is over
                except ConnectionClosedError as error:
                    print("line broke:", error, file=sys.stderr)


if len(sys.argv) != 4:
    sys.exit(f"usage: python {sys.argv[0]} SERVER CALL_ID FILE\n\n{__doc__}")
asyncio.run(listen(*sys.argv[1:]))
