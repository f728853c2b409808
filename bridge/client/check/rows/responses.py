"""Rows about answers."""

from bridge.client.check.rows.common import (
    ASKED,
    CLIENT,
    FUNCTION,
    GUIDE,
    SERVER,
    SPOKEN,
    TEXT_ONLY,
    respond,
    say,
    update,
)
from bridge.client.check.steps import Expect, Hear, Never, Order, Refused, Row, Send
from bridge.client.check.values import ID, JSON_TEXT, NUMBER, TEXT, OneOf

__all__ = ["ROWS"]

ROWS: tuple[Row, ...] = (
    Row(
        id="responses.text",
        says="A text answer comes in the protocol's order, from response.created to response.done.",
        source=SERVER,
        steps=(
            *ASKED,
            respond(**TEXT_ONLY),
            Expect("response.created", {"response.status": "in_progress"}, keep={"response": "response.id"}),
            Expect("response.output_text.done", {"text": TEXT, "response_id": "$response"}, within_s=30),
            Expect(
                "response.done",
                {
                    "response.id": "$response",
                    "response.status": "completed",
                    "response.output.0.type": "message",
                    "response.output.0.role": "assistant",
                },
                within_s=30,
            ),
            Order(
                (
                    "response.created",
                    "response.output_item.added",
                    "response.content_part.added",
                    "response.output_text.delta",
                    "response.output_text.done",
                    "response.content_part.done",
                    "response.output_item.done",
                    "response.done",
                )
            ),
        ),
    ),
    Row(
        id="responses.item_met_first",
        says="An answer's item is in the conversation before its first delta comes.",
        source="openai-realtime-api drops deltas of items that it does not know",
        steps=(
            *ASKED,
            respond(**TEXT_ONLY),
            Expect("response.output_item.added", keep={"item": "item.id"}, within_s=20),
            Expect("conversation.item.added", {"item.id": "$item", "item.role": "assistant"}),
            Expect("response.output_text.delta", {"item_id": "$item"}, within_s=20),
            Order(("response.output_item.added", "response.output_text.delta")),
        ),
    ),
    Row(
        id="responses.audio",
        says="A spoken answer has a transcript and comes in the protocol's order.",
        source=SERVER,
        steps=(
            *SPOKEN,
            Expect("response.done", {"response.status": "completed"}, within_s=40),
            Order(
                (
                    "response.created",
                    "response.output_item.added",
                    "response.content_part.added",
                    "response.output_audio_transcript.delta",
                    "response.output_audio_transcript.done",
                    "response.content_part.done",
                    "response.output_item.done",
                    "response.done",
                )
            ),
            Hear(200),
        ),
    ),
    Row(
        id="responses.audio_done",
        says="response.output_audio.done comes, over WebRTC too.",
        source=GUIDE.format("WebRTC"),
        steps=(*SPOKEN, Expect("response.output_audio.done", within_s=40)),
    ),
    Row(
        id="responses.usage",
        says="response.done reports the usage.",
        source=SERVER,
        steps=(
            *ASKED,
            respond(**TEXT_ONLY),
            Expect(
                "response.done",
                {
                    "response.usage.total_tokens": NUMBER,
                    "response.usage.input_tokens": NUMBER,
                    "response.usage.output_tokens": NUMBER,
                },
                within_s=30,
            ),
        ),
    ),
    Row(
        id="responses.metadata",
        says="A response carries its metadata from created to done.",
        source=CLIENT,
        steps=(
            *ASKED,
            respond(metadata={"topic": "check"}, **TEXT_ONLY),
            Expect("response.created", {"response.metadata.topic": "check"}),
            Expect("response.done", {"response.metadata.topic": "check"}, within_s=30),
        ),
    ),
    Row(
        id="responses.null",
        says="response.create with response: null is the same as without it.",
        source="semantic-kernel sends it each time",
        steps=(
            update(output_modalities=["text"]),
            Expect("session.updated"),
            *ASKED,
            Send({"type": "response.create", "response": None}),
            Expect("response.done", {"response.status": "completed"}, within_s=30),
        ),
    ),
    Row(
        id="responses.out_of_band",
        says="A response of conversation none adds nothing to the conversation.",
        source=GUIDE.format("responses outside the default conversation"),
        steps=(
            respond(
                conversation="none",
                input=[
                    {
                        "type": "message",
                        "role": "user",
                        "content": [{"type": "input_text", "text": "Please count to five."}],
                    }
                ],
                **TEXT_ONLY,
            ),
            Expect("response.done", {"response.status": "completed"}, within_s=30),
            Never("conversation.item.added", 0.3),
        ),
    ),
    Row(
        id="responses.one_at_a_time",
        says="A second response is refused while the first one is in progress.",
        source=SERVER,
        steps=(
            *ASKED,
            Send({"type": "response.create"}),
            Send({"type": "response.create"}),
            Refused(("conversation_already_has_active_response",)),
        ),
    ),
    Row(
        id="responses.cancel",
        says="response.cancel ends a response as cancelled.",
        source=CLIENT,
        steps=(
            *ASKED,
            respond(),
            Expect("response.created", within_s=20),
            Send({"type": "response.cancel"}),
            Expect("response.done", {"response.status": OneOf(("cancelled", "completed"))}, within_s=20),
        ),
    ),
    Row(
        id="responses.cancel_nothing",
        says="response.cancel is refused if no response is in progress.",
        source=SERVER,
        steps=(Send({"type": "response.cancel"}), Refused(("response_cancel_not_active",))),
    ),
    Row(
        id="responses.function",
        says="A function that must be called is called, with its name and with arguments in JSON.",
        source=GUIDE.format("function calling"),
        steps=(
            update(tools=[FUNCTION], tool_choice={"type": "function", "name": FUNCTION["name"]}, **TEXT_ONLY),
            Expect("session.updated"),
            say("What is the weather in Paris?"),
            respond(),
            Expect(
                "response.function_call_arguments.done",
                {"call_id": ID, "arguments": JSON_TEXT},
                keep={"call": "call_id"},
                within_s=30,
            ),
            Expect(
                "response.done",
                {
                    "response.output.0.type": "function_call",
                    "response.output.0.name": FUNCTION["name"],
                    "response.output.0.call_id": "$call",
                },
                within_s=30,
            ),
        ),
    ),
    Row(
        id="responses.function_name",
        says="response.function_call_arguments.done names the function.",
        source=SERVER,
        steps=(
            update(tools=[FUNCTION], tool_choice="required", **TEXT_ONLY),
            Expect("session.updated"),
            say("What is the weather in Paris?"),
            respond(),
            Expect("response.function_call_arguments.done", {"name": FUNCTION["name"]}, within_s=30),
        ),
        dialects=("ga",),
    ),
    Row(
        id="responses.function_output",
        says="After a function's output, the next response says something.",
        source=GUIDE.format("function calling"),
        steps=(
            update(tools=[FUNCTION], tool_choice={"type": "function", "name": FUNCTION["name"]}, **TEXT_ONLY),
            Expect("session.updated"),
            say("What is the weather in Paris?"),
            respond(),
            Expect("response.function_call_arguments.done", keep={"call": "call_id"}, within_s=30),
            Expect("response.done", within_s=30),
            Send(
                {
                    "type": "conversation.item.create",
                    "item": {"type": "function_call_output", "call_id": "$call", "output": '{"sky": "blue"}'},
                }
            ),
            Expect(
                "conversation.item.added",
                {"item.type": "function_call_output", "item.call_id": "$call"},
                or_kind="conversation.item.created",
            ),
            respond(tool_choice="none", **TEXT_ONLY),
            Expect("response.done", {"response.output.0.type": "message"}, within_s=30),
        ),
    ),
)
