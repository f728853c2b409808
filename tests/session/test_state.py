"""The state of a session: it follows what the upstream says, and knows what a client may not do."""

from typing import Any

import msgspec
import pytest

from bridge.errors import BadEvent
from bridge.session.state import SessionState
from bridge.wire import items
from bridge.wire import server_events as server
from bridge.wire.sessions import (
    AudioConfig,
    AudioInput,
    AudioOutput,
    ChosenTool,
    FunctionTool,
    McpTool,
    PcmuFormat,
    SessionConfig,
    default_session,
    default_transcription,
)

TOKENS = items.Usage.of(input_text=1, input_audio=2, output_text=3, output_audio=4)


def new_state() -> SessionState:
    return SessionState(default_session(session_id="sess_1", model="parrot", expires_at=7))


def voice(name: str) -> SessionConfig:
    return SessionConfig(audio=AudioConfig(output=AudioOutput(voice=name)))


def heard(item_id: str = "item_a") -> items.Message:
    return items.Message(id=item_id, role="user", content=[items.InputAudio()])


def spoken(item_id: str = "item_b", words: str = "hello there") -> items.Message:
    return items.Message(id=item_id, role="assistant", content=[items.OutputAudio(transcript=words)])


def response(
    response_id: str = "resp_1", usage: items.Usage | None = None, *, conversation_id: str | None = "conv_1"
) -> items.Response:
    return items.Response(id=response_id, output_modalities=["audio"], usage=usage, conversation_id=conversation_id)


BESIDE = items.ResponseConfig(conversation="none")


def test_an_update_is_laid_over() -> None:
    """What an update names changes, null turns off, what it leaves out stays; nothing is true before it is said."""
    state = new_state()
    update = SessionConfig(instructions="sing", audio=AudioConfig(input=AudioInput(turn_detection=None)))
    config = state.updated(update)
    assert state.config.instructions == ""
    state.follow(server.SessionUpdated(session=config))
    assert (state.config.instructions, state.turn_detection) == ("sing", None)
    assert state.output.voice == "alloy"


def test_what_the_server_alone_sets() -> None:
    """Id, object and expiry stay as they are."""
    state = new_state()
    config = state.updated(SessionConfig(id="sess_2", object="realtime.transcription_session", expires_at=99))
    assert (config.id, config.object, config.expires_at) == ("sess_1", "realtime.session", 7)


def test_a_session_stays_what_it_is() -> None:
    """A conversation becomes no transcription, nor the other way round; to name what it is does no harm."""
    conversation = new_state()
    transcription = SessionState(default_transcription(session_id="sess_1", model="m", expires_at=0))
    for state, same, other in (
        (conversation, "realtime", "transcription"),
        (transcription, "transcription", "realtime"),
    ):
        assert state.updated(msgspec.convert({"type": same}, SessionConfig)) == state.config
        with pytest.raises(BadEvent, match=f"a {other} session update event to a {same} session") as caught:
            state.updated(msgspec.convert({"type": other}, SessionConfig))
        assert (caught.value.code, caught.value.param) == ("invalid_parameter", "session.type")


def test_the_model_is_settled_by_the_first_update() -> None:
    """Agents SDKs name their model there, whatever the URL said; from then on another one is refused."""
    state = new_state()
    state.follow(server.SessionUpdated(session=state.updated(SessionConfig(model="gpt-realtime-2.1"))))
    assert state.config.model == "gpt-realtime-2.1"
    assert state.updated(SessionConfig(model="gpt-realtime-2.1", instructions="sing")).instructions == "sing"
    with pytest.raises(BadEvent, match=r"gpt-realtime-2\.1") as caught:
        state.updated(SessionConfig(model="parrot"))
    assert caught.value.param == "session.model"


def test_a_forced_tool_is_one_of_the_tools() -> None:
    """Of those that the session then has, or that the response brings; of functions and of remote servers alike."""
    state = new_state()
    tools: list[FunctionTool | McpTool] = [FunctionTool(name="look"), McpTool(server_label="files")]
    look, leap = (ChosenTool(type="function", name=name) for name in ("look", "leap"))
    files = ChosenTool(type="mcp", server_label="files")
    config = state.updated(SessionConfig(tools=tools, tool_choice=look))
    state.follow(server.SessionUpdated(session=config))
    for update, param in (
        (SessionConfig(tool_choice=leap), "session.tool_choice.name"),
        (SessionConfig(tools=[]), "session.tool_choice.name"),
        (SessionConfig(tool_choice=ChosenTool(type="function")), "session.tool_choice.name"),
        (SessionConfig(tool_choice=ChosenTool(type="mcp", server_label="look")), "session.tool_choice.server_label"),
    ):
        with pytest.raises(BadEvent) as caught:
            state.updated(update)
        assert caught.value.param == param
    for choice in (look, files, "none"):
        state.new_response("resp_1", items.ResponseConfig(tool_choice=choice))
    state.new_response("resp_1", items.ResponseConfig(tools=[FunctionTool(name="leap")], tool_choice=leap))
    for wanted in (
        items.ResponseConfig(tool_choice=leap),
        items.ResponseConfig(tools=[FunctionTool(name="leap")], tool_choice=look),
    ):
        with pytest.raises(BadEvent) as caught:
            state.new_response("resp_1", wanted)
        assert caught.value.param == "response.tool_choice.name"


def test_an_answer_has_a_question() -> None:
    """The output of a function that nobody called is refused, as is a word on a remote tool that nobody asked for."""
    state = new_state()
    output = items.FunctionCallOutput(call_id="call_1", output="1")
    with pytest.raises(BadEvent, match="call_1") as caught:
        state.require_answerable(output)
    assert (caught.value.code, caught.value.param) == ("invalid_tool_call_id", "item.call_id")
    call = items.FunctionCall(id="item_c", call_id="call_1", name="f", arguments="{}")
    state.follow(server.ConversationItemAdded(item=call))
    for item in (output, call, heard()):
        state.require_answerable(item)
    with pytest.raises(BadEvent, match="mcpr_1") as caught:
        state.require_answerable(items.McpApprovalResponse(approval_request_id="mcpr_1", approve=True))
    assert caught.value.param == "item.approval_request_id"


def test_a_response_may_refer_to_items() -> None:
    """What it is given of is the conversation, or what it brings, with references in the place of known items."""
    state = new_state()
    state.follow(server.ConversationItemAdded(item=heard()))
    assert state.history(items.ResponseConfig()) == [heard()]
    assert state.history(items.ResponseConfig(input=[])) == []
    wanted = items.ResponseConfig(input=[spoken(), items.ItemReference("item_a")])
    assert state.history(wanted) == [spoken(), heard()]
    with pytest.raises(BadEvent, match="item_z") as caught:
        state.history(items.ResponseConfig(input=[spoken(), items.ItemReference("item_z")]))
    assert caught.value.param == "response.input[1].id"


def test_the_voice_is_fixed_by_the_first_sound() -> None:
    """Until sound was output any voice may be chosen, after it only the one that is heard."""
    state = new_state()
    state.follow(server.SessionUpdated(session=state.updated(voice("marin"))))
    state.has_spoken = True
    assert state.updated(voice("marin")).audio == state.config.audio
    with pytest.raises(BadEvent) as caught:
        state.updated(voice("cedar"))
    assert (caught.value.code, caught.value.param) == ("cannot_update_voice", "session.audio.output.voice")


def test_items_stand_where_the_upstream_says() -> None:
    """Added behind the item that is named, in front for null, last where nothing is said; deleted ones are gone."""
    state = new_state()
    for item_id, previous in (("b", None), ("c", "b"), ("a", None)):
        state.follow(server.ConversationItemAdded(item=heard(item_id), previous_item_id=previous))
    state.follow(server.ConversationItemAdded(item=heard("d")))
    state.follow(server.ConversationItemDeleted(item_id="c"))
    assert [item.id for item in state.conversation.items()] == ["a", "b", "d"]


def test_items_grow_complete() -> None:
    """An unfinished item is replaced by the finished one, transcripts are filled in, what was not heard is removed."""
    state = new_state()
    state.follow(server.ConversationItemAdded(item=heard()))
    unfinished = items.Message(id="item_b", role="assistant", content=[])
    state.follow(server.ConversationItemAdded(item=unfinished, previous_item_id="item_a"))
    state.follow(server.OutputItemDone(response_id="resp_1", output_index=0, item=spoken()))
    state.follow(server.InputAudioTranscriptionCompleted(item_id="item_a", transcript="hi", usage={}))
    question, answer = state.conversation.items()
    assert isinstance(question, items.Message)
    assert question.content == [items.InputAudio(transcript="hi")]
    assert answer == spoken()
    state.follow(server.ConversationItemTruncated(item_id="item_b", content_index=0, audio_end_ms=10))
    assert state.conversation.find("item_b") == spoken(words="")
    state.follow(server.OutputItemDone(response_id="resp_2", output_index=0, item=spoken("item_apart")))
    assert state.conversation.get("item_apart") is None


def test_one_response_at_a_time() -> None:
    """While one is in progress in the conversation no other may begin; it is cancelled by its id or without."""
    state = new_state()
    state.require_idle(items.ResponseConfig())
    with pytest.raises(BadEvent) as caught:
        state.require_active(None)
    assert caught.value.code == "response_cancel_not_active"
    state.follow(server.ResponseCreated(response=response()))
    for wanted in (items.ResponseConfig(), items.ResponseConfig(conversation="auto")):
        with pytest.raises(BadEvent, match="resp_1") as caught:
            state.require_idle(wanted)
        assert caught.value.code == "conversation_already_has_active_response"
    for response_id in (None, "resp_1"):
        assert state.require_active(response_id) == "resp_1"
    with pytest.raises(BadEvent):
        state.require_active("resp_2")
    state.follow(server.ResponseDone(response=response("resp_0")))
    assert state.response is not None
    state.follow(server.ResponseDone(response=response()))
    state.require_idle(items.ResponseConfig())


def test_responses_beside_the_conversation() -> None:
    """Sixteen may be in progress, whatever the conversation does; each is cancelled by its id, none without."""
    state = new_state()
    for number in range(16):
        state.require_idle(BESIDE)
        state.follow(server.ResponseCreated(response=response(f"resp_{number}", conversation_id=None)))
        state.require_idle(items.ResponseConfig())
        assert state.require_active(f"resp_{number}") == f"resp_{number}"
    with pytest.raises(BadEvent) as caught:
        state.require_active(None)
    assert caught.value.code == "response_cancel_not_active"
    state.follow(server.ResponseCreated(response=response("resp_own")))
    assert state.require_active(None) == "resp_own"
    with pytest.raises(BadEvent, match="16 responses") as caught:
        state.require_idle(BESIDE)
    assert (caught.value.code, caught.value.param) == ("too_many_active_responses", "response.conversation")
    state.follow(server.ResponseDone(response=response("resp_own")))
    with pytest.raises(BadEvent):
        state.require_idle(BESIDE)
    state.follow(server.ResponseDone(response=response("resp_3", conversation_id=None)))
    state.require_idle(BESIDE)


def test_responses_that_are_never_done_are_bounded() -> None:
    """A server that ends none of them costs no memory: the oldest is forgotten."""
    state = new_state()
    for number in range(1000):
        state.follow(server.ResponseCreated(response=response(f"resp_{number}")))
    assert len(state.responses) == 256
    assert state.require_active("resp_999") == "resp_999"


def test_a_transcription_session_has_no_responses() -> None:
    """It listens only, and says so."""
    state = SessionState(default_transcription(session_id="sess_1", model="m", expires_at=0))
    for wanted in (items.ResponseConfig(), BESIDE):
        with pytest.raises(BadEvent, match="no responses"):
            state.require_idle(wanted)


def test_only_an_assistants_sound_is_truncated() -> None:
    """Neither an unknown item, nor the caller's, nor a part that is not there."""
    state = new_state()
    state.follow(server.ConversationItemAdded(item=heard()))
    state.follow(server.ConversationItemAdded(item=spoken()))
    state.require_audio("item_b", 0)
    for item_id, content_index in (("item_a", 0), ("item_b", 1), ("item_z", 0)):
        with pytest.raises(BadEvent) as caught:
            state.require_audio(item_id, content_index)
        assert caught.value.param == "item_id"


def test_a_response_is_set_as_its_session() -> None:
    """Voice, format, modalities and token limit are the session's, unless the response was asked for otherwise."""
    state = new_state()
    state.follow(server.SessionUpdated(session=state.updated(SessionConfig(max_output_tokens=100))))
    usual = state.new_response("resp_1", items.ResponseConfig())
    assert (usual.output_modalities, usual.max_output_tokens, usual.metadata) == (["audio"], 100, None)
    assert usual.conversation_id == state.conversation.id
    output = items.ResponseAudioOutput(format=PcmuFormat())
    wanted = items.ResponseConfig(
        conversation="none",
        output_modalities=["text"],
        audio=items.ResponseAudio(output=output),
        max_output_tokens="inf",
        metadata={"topic": "test"},
    )
    other = state.new_response("resp_2", wanted)
    assert (other.output_modalities, other.max_output_tokens, other.metadata) == (["text"], "inf", {"topic": "test"})
    assert other.conversation_id is None
    assert other.audio == items.ResponseAudio(output=items.ResponseAudioOutput(format=PcmuFormat(), voice="alloy"))


def test_what_it_costs_is_added_up() -> None:
    """The usage of every response, those beside the conversation and in parallel too; the limits as told last."""
    state = new_state()
    places = ((0, "conv_1"), (1, None))
    for number, place in places:
        state.follow(server.ResponseCreated(response=response(f"resp_{number}", conversation_id=place)))
    for number, place in places:
        state.follow(server.ResponseDone(response=response(f"resp_{number}", TOKENS, conversation_id=place)))
    assert state.responses == {}
    assert state.usage == items.Usage.of(input_text=2, input_audio=4, output_text=6, output_audio=8)
    assert state.usage.total_tokens == 20
    limit = server.RateLimit(name="tokens", limit=9, remaining=8, reset_seconds=1.0)
    state.follow(server.RateLimitsUpdated(rate_limits=[limit]))
    assert state.rate_limits == [limit]


def test_words_are_estimated_as_tokens() -> None:
    """Instructions, text, transcripts, arguments and outputs count; sound without words does not."""
    state = new_state()
    state.follow(server.SessionUpdated(session=state.updated(SessionConfig(instructions="one two three"))))
    history: list[items.Item] = [
        heard(),
        spoken(words="one two"),
        items.FunctionCall(name="f", arguments="one"),
        items.FunctionCallOutput(call_id="call_1", output="one two"),
        items.Message(role="user", content=[items.InputText(text="one")]),
        items.McpApprovalResponse(approval_request_id="mcpr_1", approve=False, reason="not mine"),
    ]
    assert state.text_tokens(history) == 12


@pytest.mark.parametrize("content_index", [-2, -1, 1, 2**40])
def test_a_part_that_an_item_does_not_have(content_index: int) -> None:
    """A service that speaks of one, behind the last or before the first, changes nothing."""
    state = new_state()
    for item in (heard("item_a"), spoken("item_b", words="one two")):
        state.follow(server.ConversationItemAdded(item=item))
    before = [msgspec.to_builtins(state.conversation.get(name)) for name in ("item_a", "item_b")]
    place: dict[str, Any] = {"content_index": content_index}
    state.follow(server.ConversationItemTruncated(item_id="item_b", audio_end_ms=1, **place))
    state.follow(server.InputAudioTranscriptionCompleted(item_id="item_a", transcript="x", usage={}, **place))
    assert [msgspec.to_builtins(state.conversation.get(name)) for name in ("item_a", "item_b")] == before
