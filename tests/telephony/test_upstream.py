"""A telephone call to a Realtime service that takes G.711: nothing is decoded on the way."""

import asyncio
import base64
from typing import Any

import pytest
from msgspec import to_builtins

from bridge.wire import items
from tests.end_to_end.conftest import ServeWith
from tests.telephony.calling import calling, dialling, session_of
from tests.telephony.rows import SETTINGS
from tests.upstream.service import Service, Visit

_IDS: dict[str, Any] = {"response_id": "resp_1", "item_id": "item_1", "output_index": 0, "content_index": 0}
_ITEM = {"id": "item_1", "object": "realtime.item", "type": "message", "role": "assistant", "status": "in_progress",
         "content": []}  # fmt: skip
_ANSWER = bytes(range(16, 112)) * 25  # 300 ms that are no silence
_ENOUGH_BYTES = 160 * 30


class _Operator:
    """Takes a session as it is asked for, hears for a while, and answers."""

    def __init__(self) -> None:
        self.formats: list[Any] = []
        self.heard = b""
        self.has_heard = asyncio.Event()

    async def serve(self, visit: Visit) -> None:
        """One connection."""
        await visit.greet()
        session = (await visit.hear("session.update"))["session"]
        self.formats = [session["audio"][way]["format"] for way in ("input", "output")]
        await visit.say("session.updated", session=session)
        while len(self.heard) < _ENOUGH_BYTES:
            self.heard += base64.b64decode((await visit.hear("input_audio_buffer.append"))["audio"])
        self.has_heard.set()
        response = to_builtins(items.Response(id="resp_1", status="in_progress", output_modalities=["audio"]))
        await visit.say("response.created", response=response)
        await visit.say("response.output_item.added", response_id="resp_1", output_index=0, item=_ITEM)
        await visit.say("response.content_part.added", part={"type": "audio", "transcript": ""}, **_IDS)
        await visit.say("response.output_audio.delta", delta=base64.b64encode(_ANSWER).decode(), **_IDS)
        await visit.say("response.output_audio.done", **_IDS)
        await visit.say("response.done", response={**response, "status": "completed"})
        await visit.until_closed()


@pytest.mark.parametrize(("carrier", "codec", "answer_codec", "media_types"), [
    ("twilio", None, None, ["audio/pcmu", "audio/pcmu"]),
    ("telnyx", "PCMA", None, ["audio/pcma", "audio/pcmu"]),
    ("telnyx", "PCMU", "PCMA", ["audio/pcmu", "audio/pcma"]),
    ("asterisk", "alaw", None, ["audio/pcma", "audio/pcma"]),
])  # fmt: skip
async def test_the_same_law_is_passed_through(
    serve_with: ServeWith,
    carrier: Any,
    codec: str | None,
    answer_codec: str | None,
    media_types: list[str],
    short_pcm: bytes,
) -> None:
    """The service gets the caller's very bytes and the caller the service's, in the laws that the session was told."""
    operator = _Operator()
    async with (
        Service.serving(operator.serve) as service,
        serve_with(**SETTINGS, upstream=service.url, upstream_key="k") as daemon,
        calling(dialling(daemon, carrier, codec=codec, answer_codec=answer_codec)) as caller,
    ):
        await session_of(daemon, caller)
        caller.say(short_pcm[48 * 300 :])
        await caller.wait(lambda: b"".join(frame for _, frame in caller.frames).count(_ANSWER) == 1, "answer")
    assert [audio_format["type"] for audio_format in operator.formats] == media_types
    assert operator.heard in bytes(caller.said)
    assert caller.phone.carrier.complaints == []
