"""What the bridge says: each event as a client reads it."""

import json
from typing import Any

import pytest

from bridge.errors import BadEvent, UpstreamError
from bridge.wire import items
from bridge.wire import own_events as own
from bridge.wire import server_events as server
from bridge.wire.server_events import ServerEvent, encode, error_event
from bridge.wire.sessions import default_session
from bridge.wire.stats import CallResult, IncomingOutcome, Transport
from tests.fakes import CALL_STATS

SESSION = default_session(session_id="sess_1", model="parrot", expires_at=0)
ASSISTANT = items.Message(id="item_2", object="realtime.item", status="in_progress", role="assistant", content=[])
RESPONSE = items.Response(id="resp_1", output_modalities=["audio"], output=[ASSISTANT])
PART = items.ContentPart(type="audio", transcript="")
IN_RESPONSE: dict[str, Any] = {"response_id": "resp_1", "item_id": "item_2", "output_index": 0}
IN_PART = IN_RESPONSE | {"content_index": 0}

EVERY_EVENT: list[tuple[ServerEvent, str, set[str]]] = [
    (error_event(BadEvent("no")), "error", {"error"}),
    (server.SessionCreated(session=SESSION), "session.created", {"session"}),
    (server.SessionUpdated(session=SESSION), "session.updated", {"session"}),
    (
        server.ConversationItemAdded(item=ASSISTANT, previous_item_id=None),
        "conversation.item.added",
        {"item", "previous_item_id"},
    ),
    (server.ConversationItemDone(item=ASSISTANT), "conversation.item.done", {"item"}),
    (server.ConversationItemRetrieved(item=ASSISTANT), "conversation.item.retrieved", {"item"}),
    (server.ConversationItemDeleted(item_id="item_2"), "conversation.item.deleted", {"item_id"}),
    (
        server.ConversationItemTruncated(item_id="item_2", content_index=0, audio_end_ms=7),
        "conversation.item.truncated",
        {"item_id", "content_index", "audio_end_ms"},
    ),
    (
        server.InputAudioTranscriptionFailed(
            item_id="item_1", error=server.TranscriptionError(code="transcription_unavailable", message="no")
        ),
        "conversation.item.input_audio_transcription.failed",
        {"item_id", "content_index", "error"},
    ),
    (
        server.InputAudioBufferCommitted(item_id="item_1"),
        "input_audio_buffer.committed",
        {"item_id", "previous_item_id"},
    ),
    (server.InputAudioBufferCleared(), "input_audio_buffer.cleared", set()),
    (
        server.InputAudioBufferSpeechStarted(audio_start_ms=1, item_id="item_1"),
        "input_audio_buffer.speech_started",
        {"audio_start_ms", "item_id"},
    ),
    (
        server.InputAudioBufferSpeechStopped(audio_end_ms=2, item_id="item_1"),
        "input_audio_buffer.speech_stopped",
        {"audio_end_ms", "item_id"},
    ),
    (server.OutputAudioBufferStarted(response_id="resp_1"), "output_audio_buffer.started", {"response_id"}),
    (server.OutputAudioBufferStopped(response_id="resp_1"), "output_audio_buffer.stopped", {"response_id"}),
    (server.OutputAudioBufferCleared(response_id="resp_1"), "output_audio_buffer.cleared", {"response_id"}),
    (
        server.ConversationCreated(conversation={"id": "conv_1", "object": "realtime.conversation"}),
        "conversation.created",
        {"conversation"},
    ),
    (
        server.InputAudioTranscriptionDelta(item_id="item_1", delta="he"),
        "conversation.item.input_audio_transcription.delta",
        {"item_id", "content_index", "delta"},
    ),
    (
        server.InputAudioTranscriptionCompleted(
            item_id="item_1", transcript="hello", usage={"type": "duration", "seconds": 1.0}
        ),
        "conversation.item.input_audio_transcription.completed",
        {"item_id", "content_index", "transcript", "usage"},
    ),
    (
        server.InputAudioTranscriptionSegment(
            item_id="item_1", id="seg_1", text="hello", speaker="A", start=0.0, end=0.5
        ),
        "conversation.item.input_audio_transcription.segment",
        {"item_id", "content_index", "id", "text", "speaker", "start", "end"},
    ),
    (
        server.InputAudioBufferTimeoutTriggered(audio_start_ms=0, audio_end_ms=5, item_id="item_1"),
        "input_audio_buffer.timeout_triggered",
        {"audio_start_ms", "audio_end_ms", "item_id"},
    ),
    (
        server.DtmfEventReceived(event="5", received_at=1),
        "input_audio_buffer.dtmf_event_received",
        {"event", "received_at"},
    ),
    (server.McpListToolsInProgress(item_id="item_2"), "mcp_list_tools.in_progress", {"item_id"}),
    (server.McpListToolsCompleted(item_id="item_2"), "mcp_list_tools.completed", {"item_id"}),
    (server.McpListToolsFailed(item_id="item_2"), "mcp_list_tools.failed", {"item_id"}),
    (
        server.McpCallArgumentsDelta(**IN_RESPONSE, delta="{"),
        "response.mcp_call_arguments.delta",
        {*IN_RESPONSE, "delta", "obfuscation"},
    ),
    (
        server.McpCallArgumentsDone(**IN_RESPONSE, arguments="{}"),
        "response.mcp_call_arguments.done",
        {*IN_RESPONSE, "arguments"},
    ),
    (
        server.McpCallInProgress(item_id="i", output_index=0),
        "response.mcp_call.in_progress",
        {"item_id", "output_index"},
    ),
    (server.McpCallCompleted(item_id="i", output_index=0), "response.mcp_call.completed", {"item_id", "output_index"}),
    (server.McpCallFailed(item_id="i", output_index=0), "response.mcp_call.failed", {"item_id", "output_index"}),
    (server.OutputAudioDelta(**IN_PART, delta="AAAA"), "response.output_audio.delta", {*IN_PART, "delta"}),
    (
        own.CallLost(call_id="rtc_1", reason="peer_lost", seconds=30.0),
        "bridge.call.lost",
        {"call_id", "reason", "seconds"},
    ),
    (own.CallResumed(call_id="rtc_1"), "bridge.call.resumed", {"call_id"}),
    (
        own.CallClosed(call_id="rtc_1", result=CallResult.SUCCESS, reason="hangup"),
        "bridge.call.closed",
        {"call_id", "result", "reason"},
    ),
    (server.ResponseCreated(response=RESPONSE), "response.created", {"response"}),
    (server.ResponseDone(response=RESPONSE), "response.done", {"response"}),
    (
        server.OutputItemAdded(response_id="resp_1", output_index=0, item=ASSISTANT),
        "response.output_item.added",
        {"response_id", "output_index", "item"},
    ),
    (
        server.OutputItemDone(response_id="resp_1", output_index=0, item=ASSISTANT),
        "response.output_item.done",
        {"response_id", "output_index", "item"},
    ),
    (server.ContentPartAdded(**IN_PART, part=PART), "response.content_part.added", {*IN_PART, "part"}),
    (server.ContentPartDone(**IN_PART, part=PART), "response.content_part.done", {*IN_PART, "part"}),
    (server.OutputTextDelta(**IN_PART, delta="a"), "response.output_text.delta", {*IN_PART, "delta"}),
    (server.OutputTextDone(**IN_PART, text="a"), "response.output_text.done", {*IN_PART, "text"}),
    (server.OutputAudioDone(**IN_PART), "response.output_audio.done", set(IN_PART)),
    (
        server.OutputAudioTranscriptDelta(**IN_PART, delta="a"),
        "response.output_audio_transcript.delta",
        {*IN_PART, "delta"},
    ),
    (
        server.OutputAudioTranscriptDone(**IN_PART, transcript="a"),
        "response.output_audio_transcript.done",
        {*IN_PART, "transcript"},
    ),
    (
        server.FunctionCallArgumentsDelta(**IN_RESPONSE, call_id="call_1", delta="{}"),
        "response.function_call_arguments.delta",
        {*IN_RESPONSE, "call_id", "delta"},
    ),
    (
        server.FunctionCallArgumentsDone(**IN_RESPONSE, call_id="call_1", name="f", arguments="{}"),
        "response.function_call_arguments.done",
        {*IN_RESPONSE, "call_id", "name", "arguments"},
    ),
    (
        server.RateLimitsUpdated(
            rate_limits=[server.RateLimit(name="tokens", limit=1, remaining=1, reset_seconds=0.0)]
        ),
        "rate_limits.updated",
        {"rate_limits"},
    ),
    (own.ListenerDropped(events=1, audio_ms=20), "bridge.listener.dropped", {"events", "audio_ms"}),
    (own.MarkReached(name="here", status="played"), "bridge.mark", {"name", "status"}),
    (own.CallsRunning(calls=[]), "bridge.calls", {"calls"}),
    (
        own.CallIncoming(call_id="rtc_1", transport=Transport("twilio"), sip_headers=[], seconds=20.0),
        "bridge.call.incoming",
        {"call_id", "transport", "sip_headers", "seconds", "traceparent"},
    ),
    (
        own.CallSettled(call_id="rtc_1", transport=Transport("twilio"), outcome=IncomingOutcome.EXPIRED),
        "bridge.call.settled",
        {"call_id", "transport", "outcome", "status_code"},
    ),
    (own.CallOpened(call=CALL_STATS), "bridge.call.opened", {"call"}),
    (
        own.UpstreamDialled(call_id="rtc_1", upstream="cloud", seconds=0.2),
        "bridge.upstream.dialled",
        {"call_id", "upstream", "seconds", "code"},
    ),
    (own.UpstreamDown(upstream="cloud", code="upstream_lost"), "bridge.upstream.down", {"upstream", "code"}),
    (own.UpstreamUp(upstream="cloud"), "bridge.upstream.up", {"upstream"}),
    (
        own.RecordingStarted(call_id="rtc_1", recording_id="rec_1"),
        "bridge.recording.started",
        {"call_id", "recording_id"},
    ),
    (
        own.RecordingEnded(call_id="rtc_1", recording_id="rec_1", reason="requested", seconds=1.5, files=["a"]),
        "bridge.recording.ended",
        {"call_id", "recording_id", "reason", "seconds", "files", "error", "awaits_upload"},
    ),
    (
        own.RecordingUploaded(
            call_id="rtc_1", recording_id="rec_1", reason="requested", seconds=1.5, files=["a"], urls=["s3://b/a"]
        ),
        "bridge.recording.uploaded",
        {"call_id", "recording_id", "reason", "seconds", "files", "urls"},
    ),
]


def read(event: ServerEvent) -> dict[str, Any]:
    decoded: dict[str, Any] = json.loads(encode(event))
    return decoded


def nulls(value: object, path: str = "") -> list[str]:
    """The paths of all nulls."""
    if isinstance(value, dict):
        return [found for key, inner in value.items() for found in nulls(inner, f"{path}.{key}")]
    if isinstance(value, list):
        return [found for index, inner in enumerate(value) for found in nulls(inner, f"{path}[{index}]")]
    return [path] if value is None else []


@pytest.mark.parametrize(
    ("event", "name", "fields"), EVERY_EVENT, ids=lambda value: value if type(value) is str else ""
)
def test_every_event_has_its_fields(event: ServerEvent, name: str, fields: set[str]) -> None:
    """Each event is written with its type, its event_id and its required fields, and nothing else."""
    event.event_id = "event_7"
    written = read(event)
    assert event.type == written["type"] == name
    assert written["event_id"] == "event_7"
    assert written.keys() == {"type", "event_id", *fields}


def test_every_event_is_tried() -> None:
    """The list above has each event class that there is."""
    classes = {
        getattr(module, name)
        for module in (server, own)
        for name in module.__all__
        if isinstance(getattr(module, name), type)
    }
    events = {kind for kind in classes if issubclass(kind, ServerEvent)} - {ServerEvent}
    assert {type(event) for event, _, _ in EVERY_EVENT} == events


def test_a_callers_sound_always_has_a_transcript() -> None:
    """``transcript`` of input_audio is written even while there is none: stock clients insist on the key."""
    item = items.Message(id="item_1", role="user", content=[items.InputAudio()])
    assert read(server.ConversationItemAdded(item=item))["item"]["content"] == [
        {"type": "input_audio", "transcript": None}
    ]


@pytest.mark.parametrize(
    "item",
    [
        ASSISTANT,
        items.Message(role="assistant", content=[items.OutputAudio(transcript="")]),
        items.Message(role="assistant", content=[items.OutputAudio(), items.OutputText()]),
        items.FunctionCall(name="f", arguments="{}"),
        items.FunctionCallOutput(call_id="call_1", output=""),
    ],
)
def test_what_an_assistants_item_lacks_is_absent(item: items.Item) -> None:
    """No null stands anywhere in it: stock clients take an absent field, and refuse a null."""
    assert nulls(read(server.ConversationItemRetrieved(item=item))) == []


@pytest.mark.parametrize("part", [PART, items.ContentPart(type="text", text="")])
def test_a_content_part_keeps_its_short_name(part: items.ContentPart) -> None:
    """``part.type`` is ``audio`` or ``text`` also in GA, and has no null."""
    written = read(server.ContentPartAdded(**IN_PART, part=part))
    assert written["part"]["type"] in ("audio", "text")
    assert nulls(written) == []


def test_a_response_in_progress_and_a_finished_one() -> None:
    """A response has its usage once it is done; the sums are made from the parts."""
    assert read(server.ResponseCreated(response=RESPONSE))["response"]["usage"] is None
    usage = items.Usage.of(input_text=1, input_audio=2, output_text=3, output_audio=4)
    finished = items.Response(id="resp_1", status="completed", output_modalities=["audio"], usage=usage)
    assert read(server.ResponseDone(response=finished))["response"]["usage"] == {
        "total_tokens": 10,
        "input_tokens": 3,
        "output_tokens": 7,
        "input_token_details": {"text_tokens": 1, "audio_tokens": 2, "cached_tokens": 0},
        "output_token_details": {"text_tokens": 3, "audio_tokens": 4},
    }


def test_an_error_names_its_cause() -> None:
    """An error event carries type, code, message, param, and the event_id of what it answers, null if unknown."""
    written = read(error_event(BadEvent("No.", code="invalid_audio", param="audio"), event_id="event_theirs"))
    assert written["error"] == {
        "type": "invalid_request_error",
        "code": "invalid_audio",
        "message": "No.",
        "param": "audio",
        "event_id": "event_theirs",
    }
    unasked = read(error_event(UpstreamError("gone")))["error"]
    assert (unasked["type"], unasked["param"], unasked["event_id"]) == ("server_error", None, None)
