"""One of every server event there is, as an upstream would deliver it, with its name in the beta dialect."""

from typing import Any

from bridge.wire import items
from bridge.wire import own_events as own
from bridge.wire import server_events as server
from bridge.wire.sessions import default_session
from bridge.wire.stats import CallResult, IncomingOutcome, SipHeader, Transport
from tests.fakes import CALL_STATS

__all__ = ["BETA_NAMES", "DELIVERED", "every_server_event"]

_IDS: dict[str, Any] = {"response_id": "resp_1", "item_id": "item_1", "output_index": 0, "content_index": 0}
_PLACE: dict[str, Any] = {"response_id": "resp_1", "item_id": "item_1", "output_index": 0}

BETA_NAMES: dict[str, str | None] = {
    "error": "error",
    "session.created": "session.created",
    "session.updated": "session.updated",
    "conversation.created": "conversation.created",
    "conversation.item.added": "conversation.item.created",
    "conversation.item.done": None,
    "conversation.item.retrieved": "conversation.item.retrieved",
    "conversation.item.deleted": "conversation.item.deleted",
    "conversation.item.truncated": "conversation.item.truncated",
    "conversation.item.input_audio_transcription.delta": "conversation.item.input_audio_transcription.delta",
    "conversation.item.input_audio_transcription.completed": "conversation.item.input_audio_transcription.completed",
    "conversation.item.input_audio_transcription.failed": "conversation.item.input_audio_transcription.failed",
    "conversation.item.input_audio_transcription.segment": None,
    "input_audio_buffer.committed": "input_audio_buffer.committed",
    "input_audio_buffer.cleared": "input_audio_buffer.cleared",
    "input_audio_buffer.speech_started": "input_audio_buffer.speech_started",
    "input_audio_buffer.speech_stopped": "input_audio_buffer.speech_stopped",
    "input_audio_buffer.timeout_triggered": None,
    "input_audio_buffer.dtmf_event_received": None,
    "output_audio_buffer.started": "output_audio_buffer.started",
    "output_audio_buffer.stopped": "output_audio_buffer.stopped",
    "output_audio_buffer.cleared": "output_audio_buffer.cleared",
    "response.created": "response.created",
    "response.done": "response.done",
    "response.output_item.added": "response.output_item.added",
    "response.output_item.done": "response.output_item.done",
    "response.content_part.added": "response.content_part.added",
    "response.content_part.done": "response.content_part.done",
    "response.output_text.delta": "response.text.delta",
    "response.output_text.done": "response.text.done",
    "response.output_audio.delta": "response.audio.delta",
    "response.output_audio.done": "response.audio.done",
    "response.output_audio_transcript.delta": "response.audio_transcript.delta",
    "response.output_audio_transcript.done": "response.audio_transcript.done",
    "response.function_call_arguments.delta": "response.function_call_arguments.delta",
    "response.function_call_arguments.done": "response.function_call_arguments.done",
    "response.mcp_call_arguments.delta": None,
    "response.mcp_call_arguments.done": None,
    "response.mcp_call.in_progress": None,
    "response.mcp_call.completed": None,
    "response.mcp_call.failed": None,
    "mcp_list_tools.in_progress": None,
    "mcp_list_tools.completed": None,
    "mcp_list_tools.failed": None,
    "rate_limits.updated": "rate_limits.updated",
    "bridge.listener.dropped": "bridge.listener.dropped",
    "bridge.mark": "bridge.mark",
    "bridge.calls": "bridge.calls",
    "bridge.call.incoming": "bridge.call.incoming",
    "bridge.call.settled": "bridge.call.settled",
    "bridge.call.opened": "bridge.call.opened",
    "bridge.recording.started": "bridge.recording.started",
    "bridge.recording.ended": "bridge.recording.ended",
    "bridge.recording.uploaded": "bridge.recording.uploaded",
    "bridge.upstream.dialled": "bridge.upstream.dialled",
    "bridge.upstream.down": "bridge.upstream.down",
    "bridge.upstream.up": "bridge.upstream.up",
    "bridge.call.closed": "bridge.call.closed",
    "bridge.call.lost": "bridge.call.lost",
    "bridge.call.resumed": "bridge.call.resumed",
}
"""What each event is called in beta; None where beta clients never knew it."""

DELIVERED = [
    "conversation.item.input_audio_transcription.delta",
    "conversation.item.input_audio_transcription.completed",
    "conversation.item.input_audio_transcription.segment",
    "input_audio_buffer.timeout_triggered",
    "input_audio_buffer.dtmf_event_received",
    "response.mcp_call_arguments.delta",
    "response.mcp_call_arguments.done",
    "response.mcp_call.in_progress",
    "response.mcp_call.completed",
    "response.mcp_call.failed",
    "mcp_list_tools.in_progress",
    "mcp_list_tools.completed",
    "mcp_list_tools.failed",
]
"""Those that the embedded engine never says; other upstreams do."""


def _answer(status: str) -> items.Message:
    return items.Message(
        id="item_1",
        object="realtime.item",
        status="completed" if status == "completed" else "in_progress",
        role="assistant",
        content=[items.OutputAudio(transcript="hi"), items.OutputText(text="hi")],
    )


def _question() -> items.Message:
    return items.Message(
        id="item_0", object="realtime.item", status="completed", role="user", content=[items.InputAudio()]
    )


def _response(status: str) -> items.Response:
    is_done = status == "completed"
    return items.Response(
        id="resp_1",
        status="completed" if is_done else "in_progress",
        output=[_answer("completed")] if is_done else [],
        conversation_id="conv_1",
        output_modalities=["audio"],
        usage=items.Usage.of(input_audio=1, output_text=2) if is_done else None,
    )


def every_server_event() -> dict[str, server.ServerEvent]:
    """A new one of each, by its GA name."""
    detail = server.ErrorDetail(type="invalid_request_error", code="invalid_value", message="No.", param="a.b")
    usage = {
        "type": "tokens",
        "total_tokens": 3,
        "input_tokens": 2,
        "output_tokens": 1,
        "input_token_details": {"text_tokens": 0, "audio_tokens": 2},
    }
    events: list[server.ServerEvent] = [
        server.Error(error=detail),
        server.SessionCreated(session=default_session(session_id="sess_1", model="gpt-realtime", expires_at=1)),
        server.SessionUpdated(session=default_session(session_id="sess_1", model="gpt-realtime", expires_at=1)),
        server.ConversationCreated(conversation={"id": "conv_1", "object": "realtime.conversation"}),
        server.ConversationItemAdded(previous_item_id="item_0", item=_answer("in_progress")),
        server.ConversationItemDone(previous_item_id=None, item=_question()),
        server.ConversationItemRetrieved(item=_question()),
        server.ConversationItemDeleted(item_id="item_1"),
        server.ConversationItemTruncated(item_id="item_1", content_index=0, audio_end_ms=5),
        server.InputAudioTranscriptionDelta(item_id="item_0", delta="he"),
        server.InputAudioTranscriptionCompleted(item_id="item_0", transcript="hello", usage=usage),
        server.InputAudioTranscriptionFailed(
            item_id="item_0", error=server.TranscriptionError(code="audio_unintelligible", message="What?")
        ),
        server.InputAudioTranscriptionSegment(
            item_id="item_0", id="seg_1", text="hello", speaker="A", start=0.5, end=1.5
        ),
        server.InputAudioBufferCommitted(previous_item_id=None, item_id="item_0"),
        server.InputAudioBufferCleared(),
        server.InputAudioBufferSpeechStarted(audio_start_ms=1, item_id="item_0"),
        server.InputAudioBufferSpeechStopped(audio_end_ms=2, item_id="item_0"),
        server.InputAudioBufferTimeoutTriggered(audio_start_ms=1, audio_end_ms=2, item_id="item_0"),
        server.DtmfEventReceived(event="9", received_at=1_763_605_109),
        server.OutputAudioBufferStarted(response_id="resp_1"),
        server.OutputAudioBufferStopped(response_id="resp_1"),
        server.OutputAudioBufferCleared(response_id="resp_1"),
        server.ResponseCreated(response=_response("in_progress")),
        server.ResponseDone(response=_response("completed")),
        server.OutputItemAdded(response_id="resp_1", output_index=0, item=_answer("in_progress")),
        server.OutputItemDone(response_id="resp_1", output_index=0, item=_answer("completed")),
        server.ContentPartAdded(**_IDS, part=items.ContentPart(type="audio", transcript="")),
        server.ContentPartDone(**_IDS, part=items.ContentPart(type="text", text="hi")),
        server.OutputTextDelta(**_IDS, delta="h"),
        server.OutputTextDone(**_IDS, text="hi"),
        server.OutputAudioDelta(**_IDS, delta="AAAA"),
        server.OutputAudioDone(**_IDS),
        server.OutputAudioTranscriptDelta(**_IDS, delta="h"),
        server.OutputAudioTranscriptDone(**_IDS, transcript="hi"),
        server.FunctionCallArgumentsDelta(**_PLACE, call_id="call_1", delta="{"),
        server.FunctionCallArgumentsDone(**_PLACE, call_id="call_1", name="f", arguments="{}"),
        server.McpCallArgumentsDelta(**_PLACE, delta="{"),
        server.McpCallArgumentsDone(**_PLACE, arguments="{}"),
        server.McpCallInProgress(item_id="item_1", output_index=0),
        server.McpCallCompleted(item_id="item_1", output_index=0),
        server.McpCallFailed(item_id="item_1", output_index=0),
        server.McpListToolsInProgress(item_id="item_1"),
        server.McpListToolsCompleted(item_id="item_1"),
        server.McpListToolsFailed(item_id="item_1"),
        server.RateLimitsUpdated(
            rate_limits=[server.RateLimit(name="requests", limit=10, remaining=9, reset_seconds=1.5)]
        ),
        own.ListenerDropped(events=1, audio_ms=20),
        own.MarkReached(name="here", status="played"),
        own.CallsRunning(calls=[CALL_STATS]),
        own.CallIncoming(
            call_id="rtc_1",
            transport=Transport("twilio"),
            sip_headers=[SipHeader("From", "+15550001111")],
            seconds=20.0,
        ),
        own.CallSettled(call_id="rtc_1", transport=Transport("twilio"), outcome=IncomingOutcome.ACCEPTED),
        own.CallOpened(call=CALL_STATS),
        own.RecordingStarted(call_id="rtc_1", recording_id="rec_1"),
        own.RecordingEnded(call_id="rtc_1", recording_id="rec_1", reason="requested", seconds=1.5, files=["a"]),
        own.RecordingUploaded(
            call_id="rtc_1", recording_id="rec_1", reason="server_killed", seconds=None, files=["a"], urls=["s3://b/a"]
        ),
        own.UpstreamDialled(call_id="rtc_1", upstream="cloud", seconds=0.2),
        own.UpstreamDown(upstream="cloud", code="upstream_lost"),
        own.UpstreamUp(upstream="cloud"),
        own.CallLost(call_id="rtc_1", reason="peer_lost", seconds=30.0),
        own.CallResumed(call_id="rtc_1"),
        own.CallClosed(call_id="rtc_1", result=CallResult.SUCCESS, reason="hangup"),
    ]
    return {event.type: event for event in events}
