"""Servers with a planted fault each: a row that names it fails, and passes on the server without it."""

import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from bridge.client.check.runner import Outcome, chosen, run
from bridge.client.check.target import CheckTarget
from bridge.client.sound import PHRASE, read_sound
from bridge.daemon import Daemon
from tests.check.mutant import Event, Fault, mutant
from tests.settings import config_for_tests

pytestmark = pytest.mark.slow

_KEY = "key-of-the-server"
Changes = Callable[[Event], None]


def changed(kind: str, change: Changes) -> Fault:
    """Server events of this kind are changed."""

    def server(event: Event) -> list[Event | str]:
        if event["type"] == kind:
            change(event)
        return [event]

    return Fault(server=server)


def dropped(kind: str) -> Fault:
    """Server events of this kind never come."""
    return Fault(server=lambda event: [] if event["type"] == kind else [event])


def asked(kind: str, change: Changes) -> Fault:
    """The server reads client events of this kind as others."""

    def client(event: Event) -> list[Event | str]:
        if event.get("type") == kind:
            change(event)
        return [event]

    return Fault(client=client)


def late(kind: str, behind: str) -> Fault:
    """Server events of one kind come behind the next one of another."""
    held: list[Event] = []

    def server(event: Event) -> list[Event | str]:
        if event["type"] == kind:
            held.append(event)
            return []
        if event["type"] == behind:
            out: list[Event | str] = [event, *held]
            held.clear()
            return out
        return [event]

    return Fault(server=server)


def replied(change: Callable[[int, dict[str, str], bytes], tuple[int, dict[str, str], bytes]]) -> Fault:
    """HTTP responses are changed."""
    return Fault(response=change)


def _without(path: str) -> Changes:
    *parents, last = path.split(".")

    def change(event: Event) -> None:
        place: Any = event
        for name in parents:
            place = place[int(name)] if isinstance(place, list) else place[name]
        place.pop(last, None)

    return change


def _with(path: str, value: Any) -> Changes:
    *parents, last = path.split(".")

    def change(event: Event) -> None:
        place: Any = event
        for name in parents:
            place = place[int(name)] if isinstance(place, list) else place[name]
        place[last] = value

    return change


def _renamed(before: str, behind: str) -> Changes:
    def change(event: Event) -> None:
        event[behind] = event.pop(before)

    return change


def _no_create_response(event: Event) -> None:
    event["session"].get("audio", {}).get("input", {}).get("turn_detection", {}).pop("create_response", None)


def _in_conversation(event: Event) -> None:
    event["response"] = {"output_modalities": ["text"]}


def _typed(event: Event) -> None:
    event["session"].setdefault("type", "realtime")


def _noisy(event: Event) -> list[Event | str]:
    return [event, "this is no event"] if event["type"] == "session.updated" else [event]


def _no_location(status: int, headers: dict[str, str], body: bytes) -> tuple[int, dict[str, str], bytes]:
    return status, {name: value for name, value in headers.items() if name != "location"}, body


def _no_candidates(status: int, headers: dict[str, str], body: bytes) -> tuple[int, dict[str, str], bytes]:
    lines = [line for line in body.split(b"\r\n") if not line.startswith(b"a=candidate")]
    return status, headers, b"\r\n".join(lines)


def _other_mids(status: int, headers: dict[str, str], body: bytes) -> tuple[int, dict[str, str], bytes]:
    return status, headers, body.replace(b"a=mid:0", b"a=mid:audio")


def _forbidden(status: int, headers: dict[str, str], body: bytes) -> tuple[int, dict[str, str], bytes]:
    return (403 if status == 401 else status), headers, body


def _plain_error(status: int, headers: dict[str, str], body: bytes) -> tuple[int, dict[str, str], bytes]:
    return status, headers, body if status < 400 else json.dumps({"detail": "no"}).encode()


def _accepted(status: int, headers: dict[str, str], body: bytes) -> tuple[int, dict[str, str], bytes]:
    return (200 if status == 201 else status), headers, body


FAULTS: dict[str, tuple[str, str, Fault]] = {
    "no event_id": (
        "items.create",
        "events.conversation.item.added",
        changed("conversation.item.added", _without("event_id")),
    ),
    "beta's name": (
        "responses.text",
        "events.response.text.delta",
        changed("response.output_text.delta", _with("type", "response.text.delta")),
    ),
    "a session without id": ("session.created", "session.created", changed("session.created", _without("session.id"))),
    "no session.updated": ("session.update", "session.update", dropped("session.updated")),
    "updates that forget": (
        "session.merge",
        "session.merge",
        changed("session.updated", _with("session.instructions", "")),
    ),
    "a field that nobody refuses": ("session.type_required", "session.type_required", asked("session.update", _typed)),
    "an error for nobody": (
        "errors.unknown_type",
        "errors.unknown_type",
        changed("error", _with("error.event_id", None)),
    ),
    "another error code": (
        "turns.commit_empty",
        "turns.commit_empty",
        changed("error", _with("error.code", "invalid")),
    ),
    "an error that blames no field": (
        "session.wrong_kind",
        "session.wrong_kind",
        changed("error", _with("error.param", None)),
    ),
    "an error ends it": ("errors.no_json", "errors.no_json", Fault(closes_after="error")),
    "done too early": ("responses.text", "responses.text", late("response.output_item.done", "response.done")),
    "an item that nobody has met": (
        "responses.item_met_first",
        "responses.item_met_first",
        late("response.output_item.added", "response.output_text.done"),
    ),
    "no usage": ("responses.usage", "responses.usage", changed("response.done", _without("response.usage"))),
    "metadata that is lost": (
        "responses.metadata",
        "responses.metadata",
        changed("response.done", _without("response.metadata")),
    ),
    "a call of no function": (
        "responses.function_name",
        "responses.function_name",
        changed("response.function_call_arguments.done", _without("name")),
    ),
    "arguments that are no JSON": (
        "responses.function",
        "responses.function",
        changed("response.function_call_arguments.done", _with("arguments", "{city: Paris}")),
    ),
    "out of band, in the conversation": (
        "responses.out_of_band",
        "responses.out_of_band",
        asked("response.create", _in_conversation),
    ),
    "the seed's speech_stopped": (
        "turns.vad",
        "events.input_audio_buffer.speech_stopped",
        changed("input_audio_buffer.speech_stopped", _renamed("audio_end_ms", "audio_start_ms")),
    ),
    "answers that nobody asked for": (
        "turns.create_response_off",
        "turns.create_response_off",
        asked("session.update", _no_create_response),
    ),
    "a buffer that is not cleared": (
        "turns.clear",
        "turns.clear",
        Fault(client=lambda event: [] if event.get("type") == "input_audio_buffer.clear" else [event]),
    ),
    "items without their order": (
        "items.order",
        "items.order",
        changed("conversation.item.added", _without("previous_item_id")),
    ),
    "part.type as in items": (
        "responses.text",
        "events.response.content_part.added",
        changed("response.content_part.added", _with("part.type", "output_text")),
    ),
    "a delta that is no base64": (
        "turns.answered",
        "turns.answered",
        changed("response.output_audio.delta", _with("delta", "%%%")),
    ),
    "a message that is not an event": ("session.update", "session.update", Fault(server=_noisy)),
    "no Location": ("calls.offer", "calls.offer", replied(_no_location)),
    "200 for 201": ("calls.offer", "calls.offer", replied(_accepted)),
    "no candidates": ("calls.offer", "calls.offer", replied(_no_candidates)),
    "other mids": ("calls.form", "calls.form", replied(_other_mids)),
    "403 for a wrong key": ("keys.wrong_socket", "keys.wrong_socket", replied(_forbidden)),
    "errors of another shape": ("keys.wrong_http", "keys.wrong_http", replied(_plain_error)),
}
"""By what is wrong: the row that is played, and the row that must fail."""


@pytest.fixture(scope="module")
def anyio_backend() -> tuple[str, dict[str, Any]]:
    """Once, on the loop that the daemon is served with."""
    return "asyncio", {"use_uvloop": True}


@pytest.fixture(scope="module")
async def daemon() -> AsyncIterator[Daemon]:
    """The server that has no fault."""
    async with Daemon(config_for_tests(api_key=(_KEY,))) as serving:
        yield serving


async def _checked(url: str, row: str) -> dict[str, Outcome]:
    transport: Any = "webrtc" if row.startswith("calls.") else "websocket"
    target = CheckTarget(url, _KEY, transport=transport)
    outcomes = await run(target, chosen(target, [row]), read_sound(PHRASE))
    return {outcome.id: outcome for outcome in outcomes}


@pytest.mark.parametrize("name", FAULTS)
async def test_a_planted_fault_is_found(daemon: Daemon, name: str) -> None:
    """The row that names the fault fails, and says what is wrong."""
    played, failing, fault = FAULTS[name]
    async with mutant(daemon.url, fault) as url:
        found = (await _checked(url, played))[failing]
    assert found.verdict == "fail"
    assert found.why


@pytest.mark.parametrize("row", sorted({played for played, _, _ in FAULTS.values()}))
async def test_without_the_fault_nothing_is_found(daemon: Daemon, row: str) -> None:
    """Each of those rows passes behind the proxy that changes nothing."""
    async with mutant(daemon.url, Fault()) as url:
        outcomes = await _checked(url, row)
    assert {outcome.id: outcome.why for outcome in outcomes.values() if outcome.verdict != "pass"} == {}
