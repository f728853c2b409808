"""Getting through to an upstream: what is tried again and what is not, and what is asked of it at first."""

import asyncio

import pytest

from bridge.errors import UpstreamError
from bridge.upstream.target import Profile
from tests.machine import scaled
from tests.upstream.dialled import dialled
from tests.upstream.service import Refusal, Service, Visit

UNAVAILABLE = Refusal(503, message="come back later", code="overloaded")


async def greeting(visit: Visit) -> None:
    await visit.greet()
    await visit.until_closed()


async def answering(visit: Visit) -> None:
    """Says ``session.updated`` to every update."""
    await visit.greet()
    while True:
        event = await visit.hear()
        if event["type"] == "session.update":
            await visit.say("session.updated", session={**event["session"], "id": "sess_theirs"})


async def test_the_session_is_the_upstreams_under_our_id() -> None:
    """What it says of itself is passed on; id and expiry are the bridge's, which may outlive it."""
    async with Service.serving(greeting) as service, dialled(service) as call:
        created = await call.until("session.created")
        assert created["session"]["model"] == "theirs"
        assert created["session"]["id"] == "sess_1"
        assert created["session"]["expires_at"] == 0
        [visit] = service.visits
        assert visit.path == "/v1/realtime?model=m"
        assert visit.headers["Authorization"] == "Bearer sk-key"
        assert "OpenAI-Beta" not in visit.headers
        assert visit.events == []


async def test_what_was_asked_for_is_asked_of_it_first() -> None:
    """Clients hear ``session.created`` with what the session was opened with."""
    wanted = {"instructions": "sing", "output_modalities": ["text"]}
    async with Service.serving(answering) as service, dialled(service, wanted=wanted) as call:
        created = await call.until("session.created")
        assert created["session"]["instructions"] == "sing"
        assert call.said.types == ["session.created"]
        [update] = service.visits[0].events
        assert update["session"] == {"type": "realtime", "instructions": "sing", "output_modalities": ["text"]}


async def test_what_is_not_to_be_had_is_said() -> None:
    """Where the upstream refuses what the session was opened with, the owner gets the session, and the reason."""

    async def refusing(visit: Visit) -> None:
        await visit.greet()
        event = await visit.hear("session.update")
        detail = {"type": "invalid_request_error", "code": "unknown_voice", "message": "no", "param": "session.voice"}
        await visit.say("error", error={**detail, "event_id": event["event_id"]})
        await visit.until_closed()

    wanted = {"instructions": "sing"}
    async with Service.serving(refusing) as service, dialled(service, wanted=wanted) as call:
        error = await call.until("error")
        assert call.said.types == ["session.created", "error"]
        assert (error["error"]["code"], error["error"]["event_id"]) == ("unknown_voice", None)


@pytest.mark.parametrize("status", [401, 403, 404])
async def test_a_refusal_is_final(status: int) -> None:
    """It is not tried again, and the call ends with the upstream's own words."""
    refusal = Refusal(status, type="invalid_request_error", code="invalid_api_key", message="Wrong key.")
    async with Service.serving(refusal) as service, dialled(service) as call:
        error = await call.until_over()
        assert (error.type, error.code, error.message) == ("invalid_request_error", "invalid_api_key", "Wrong key.")
        assert service.knocks == 1
        assert call.said.events == []


async def test_what_passes_is_tried_again() -> None:
    """A service that is overloaded is asked again, when it says so or a little later each time."""
    busy = Refusal(429, retry_after="0.05", code="rate_limit_exceeded", message="slow down")
    async with Service.serving(busy, UNAVAILABLE, greeting) as service, dialled(service) as call:
        await call.until("session.created")
        assert service.knocks == 3


async def test_there_is_an_end_to_trying() -> None:
    """After so many tries the call ends with the upstream's own error."""
    async with Service.serving(UNAVAILABLE) as service, dialled(service, tries=2) as call:
        error = await call.until_over()
        assert (error.code, error.message) == ("overloaded", "come back later")
        assert service.knocks == 2


async def test_who_wants_much_time_is_not_waited_for() -> None:
    """Retry-After of a minute is too long for a call: the next target is asked, and the engine may be the last one."""
    busy = Refusal(429, retry_after="60", code="rate_limit_exceeded", message="slow down")
    async with Service.serving(busy) as service, dialled(service, "local") as call:
        created = await call.until("session.created")
        assert service.knocks == 1
        assert created["session"]["model"] == "parrot"
        call.type("hello", "item_a")
        call.send("response.create")
        done = await call.until("response.done")
        assert done["response"]["output"][0]["content"][0]["text"] == "You wrote: hello"


async def test_nobody_there() -> None:
    """A port on which nobody listens, and a host that never answers the upgrade, are told from a refusal."""
    async with dialled("ws://127.0.0.1:9/v1/realtime", tries=1) as call:
        error = await call.until_over()
        assert error.code == "upstream_lost"
        assert "cannot be reached" in error.message

    async def deaf(visit: Visit) -> None:
        await visit.until_closed()

    async with Service.serving(deaf) as service, dialled(service, tries=1, connect_s=0.2) as call:
        assert (await call.until_over()).code == "upstream_timeout"


async def test_a_service_that_greets_with_an_error() -> None:
    """As OpenAI greets beta clients: an error, then close 4000; it is passed on and not tried again."""

    async def disabled(visit: Visit) -> None:
        detail = {"type": "invalid_request_error", "code": "beta_api_shape_disabled", "message": "No longer supported."}
        await visit.say("error", error={**detail, "param": None, "event_id": None})
        await visit.socket.close(4000, "invalid_request_error.beta_api_shape_disabled")

    async with Service.serving(disabled) as service, dialled(service) as call:
        error = await call.until_over()
        assert isinstance(error, UpstreamError)
        assert (error.code, error.message) == ("beta_api_shape_disabled", "No longer supported.")
        assert service.knocks == 1


async def test_who_speaks_early_is_heard() -> None:
    """Events and sound that come before there is a line go out when there is one, in order."""

    async def late(visit: Visit) -> None:
        await released.wait()
        await visit.greet()
        await visit.hear("input_audio_buffer.append")
        await visit.hear("conversation.item.create")
        heard.set()
        await visit.until_closed()

    released, heard = asyncio.Event(), asyncio.Event()
    async with Service.serving(late) as service, dialled(service) as call:
        call.upstream.receive_caller_audio(bytes(960))
        call.send("input_audio_buffer.commit", event_id="event_a")
        call.type("hello", "item_a")
        await service.visit(1)
        released.set()
        await call.until("session.created")
        visit = service.visits[0]
        async with asyncio.timeout(scaled(5)):
            await heard.wait()
        assert [event["type"] for event in visit.events] == [
            "input_audio_buffer.append",
            "input_audio_buffer.commit",
            "conversation.item.create",
        ]
        assert visit.events[1]["event_id"] == "event_a"


async def test_an_upstream_that_ends_the_session() -> None:
    """A close in good order is the end of the call, and no error."""

    async def leaving(visit: Visit) -> None:
        await visit.greet()
        await visit.socket.close(1000, "bye")

    async with Service.serving(leaving) as service, dialled(service) as call:
        assert await call.until_over() is None
        assert service.knocks == 1


async def test_what_is_said_beyond_the_protocol_passes() -> None:
    """Unknown client fields reach the upstream, unknown events and fields of its own reach clients."""

    async def modern(visit: Visit) -> None:
        await visit.greet()
        await visit.hear("session.update")
        await visit.say("input_audio_buffer.smelled", odour={"kind": "coffee"})
        item = {"id": "item_x", "type": "hologram", "shape": "cube"}
        await visit.say("conversation.item.added", previous_item_id=None, item=item)
        await visit.until_closed()

    async with Service.serving(modern) as service, dialled(service) as call:
        await call.until("session.created")
        call.send("session.update", session={"type": "realtime", "mood": "cheerful"})
        smelled = await call.until("input_audio_buffer.smelled")
        assert smelled["odour"] == {"kind": "coffee"}
        added = await call.until("conversation.item.added")
        assert added["item"] == {"id": "item_x", "type": "hologram", "shape": "cube"}
        assert service.visits[0].events[0]["session"]["mood"] == "cheerful"


async def test_a_profile_speaks_for_its_server() -> None:
    """A beta server with its own rate and noise is spoken to as it likes, and heard as GA."""
    profile = Profile(
        dialect="beta", key_header="api-key", model_parameter="deployment", query={"api-version": "1"},
        formats=("audio/pcm",), input_hz=16_000, ignore=("heartbeat",),
    )  # fmt: skip

    async def old(visit: Visit) -> None:
        await visit.say("heartbeat")
        await visit.say("session.created", session={"id": "s", "model": "old", "modalities": ["text", "audio"]})
        event = await visit.hear("session.update")
        assert event["session"] == {"input_audio_format": "pcm16", "turn_detection": None}
        await visit.say("session.updated", session={"id": "s", "model": "old", "modalities": ["text"]})
        await visit.until_closed()

    async with Service.serving(old) as service, dialled(service, profile=profile) as call:
        await call.until("session.created")
        assert call.upstream.input_format.rate_hz == 16_000
        audio = {"input": {"format": {"type": "audio/pcmu"}, "turn_detection": None}}
        call.send("session.update", session={"type": "realtime", "audio": audio})
        updated = await call.until("session.updated")
        assert updated["session"]["output_modalities"] == ["text"]
        [visit] = service.visits
        assert visit.path == "/v1/realtime?api-version=1&deployment=m"
        assert visit.headers["api-key"] == "sk-key"
        assert visit.headers["OpenAI-Beta"] == "realtime=v1"
        assert "heartbeat" not in call.said.types
