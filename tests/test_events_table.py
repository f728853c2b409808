"""Every event of the protocol, and for each dialect the test that sees it on the wire.

A new event needs a row, and a row needs a test: one whose source, or a constant that it uses, has the event's name.
"""

import ast
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, get_args

import pytest
from openai.types.beta.realtime import RealtimeClientEvent as BetaClientEvent
from openai.types.beta.realtime import RealtimeServerEvent as BetaServerEvent
from openai.types.realtime import RealtimeClientEvent, RealtimeServerEvent

from bridge.wire.client_events import ClientEvent
from bridge.wire.own_events import server_event_types
from tests.sdk.every_event import BETA_NAMES
from tests.sdk.stock import event_names

_TESTS = Path(__file__).parent

_GA = "sdk/test_openai_python.py"
_BETA = "sdk/test_openai_python_beta.py"
_REFERENCE = "sdk/test_beta_reference.py"
_PASSED = "sdk/test_passed_through.py"
_WORDS = "wire/dialects/test_beta.py"
_CALLS = f"{_GA}::test_call_with_sideband"
_DELIVERED = f"{_PASSED}::test_delivered_event"
_OWN = f"{_PASSED}::test_own_event"
_FLOW = "session/test_session_listeners.py::test_a_pause_holds_everything_back"
_MARK = "session/test_session_listeners.py::test_a_mark_comes_back_when_the_sound_before_it_was_played"


class Row(NamedTuple):
    """Where one event is seen; None where the dialect has no such event."""

    ga: str | None
    beta: str | None


CLIENT: dict[str, Row] = {
    "session.update": Row(f"{_GA}::test_errors", f"{_REFERENCE}::test_flat_session_update"),
    "input_audio_buffer.append": Row(f"{_GA}::test_errors", f"{_REFERENCE}::test_from_key_to_call"),
    "input_audio_buffer.commit": Row(f"{_GA}::test_errors", f"{_REFERENCE}::test_conversation_in_the_references_words"),
    "input_audio_buffer.clear": Row(
        f"{_GA}::test_manual_turns", f"{_REFERENCE}::test_conversation_in_the_references_words"
    ),
    "output_audio_buffer.clear": Row(_CALLS, f"{_REFERENCE}::test_from_key_to_call"),
    "conversation.item.create": Row(
        f"{_GA}::test_tool_call", f"{_REFERENCE}::test_conversation_in_the_references_words"
    ),
    "conversation.item.retrieve": Row(f"{_GA}::test_errors", f"{_BETA}::test_typed_text"),
    "conversation.item.delete": Row(f"{_GA}::test_errors", f"{_REFERENCE}::test_conversation_in_the_references_words"),
    "conversation.item.truncate": Row(
        f"{_GA}::test_barge_in", f"{_REFERENCE}::test_conversation_in_the_references_words"
    ),
    "response.create": Row(f"{_GA}::test_tool_call", f"{_REFERENCE}::test_conversation_in_the_references_words"),
    "response.cancel": Row(f"{_GA}::test_errors", f"{_BETA}::test_interruption"),
    "transcription_session.update": Row(None, f"{_BETA}::test_transcription_session"),
    "bridge.flow.pause": Row(_FLOW, _FLOW),
    "bridge.flow.resume": Row(_FLOW, _FLOW),
    "bridge.mark": Row(_MARK, _MARK),
}

SERVER: dict[str, Row] = {
    "error": Row(f"{_GA}::test_errors", f"{_BETA}::test_errors"),
    "session.created": Row(f"{_GA}::test_spoken_turn", f"{_BETA}::test_spoken_turn"),
    "session.updated": Row(f"{_GA}::test_spoken_turn", f"{_BETA}::test_spoken_turn"),
    "transcription_session.updated": Row(None, f"{_BETA}::test_transcription_session"),
    "conversation.created": Row(
        f"{_PASSED}::test_every_event_fits_the_types_of_both_sdks",
        f"{_PASSED}::test_beta_client_hears_of_its_conversation",
    ),
    "conversation.item.added": Row(f"{_GA}::test_spoken_turn", None),
    "conversation.item.done": Row(f"{_GA}::test_spoken_turn", None),
    "conversation.item.created": Row(None, f"{_BETA}::test_spoken_turn"),
    "conversation.item.retrieved": Row(f"{_GA}::test_typed_text", f"{_BETA}::test_typed_text"),
    "conversation.item.deleted": Row(f"{_GA}::test_typed_text", f"{_BETA}::test_typed_text"),
    "conversation.item.truncated": Row(f"{_GA}::test_barge_in", f"{_BETA}::test_interruption"),
    "conversation.item.input_audio_transcription.delta": Row(_DELIVERED, _DELIVERED),
    "conversation.item.input_audio_transcription.completed": Row(_DELIVERED, _DELIVERED),
    "conversation.item.input_audio_transcription.failed": Row(
        f"{_GA}::test_transcription_session", f"{_BETA}::test_transcription_session"
    ),
    "conversation.item.input_audio_transcription.segment": Row(_DELIVERED, None),
    "input_audio_buffer.committed": Row(f"{_GA}::test_spoken_turn", f"{_BETA}::test_spoken_turn"),
    "input_audio_buffer.cleared": Row(f"{_GA}::test_manual_turns", f"{_BETA}::test_manual_turns"),
    "input_audio_buffer.speech_started": Row(f"{_GA}::test_spoken_turn", f"{_BETA}::test_spoken_turn"),
    "input_audio_buffer.speech_stopped": Row(f"{_GA}::test_spoken_turn", f"{_BETA}::test_spoken_turn"),
    "input_audio_buffer.timeout_triggered": Row(_DELIVERED, None),
    "input_audio_buffer.dtmf_event_received": Row(_DELIVERED, None),
    "output_audio_buffer.started": Row(_CALLS, f"{_REFERENCE}::test_from_key_to_call"),
    "output_audio_buffer.stopped": Row(
        f"{_GA}::test_call_played_to_its_end", f"{_PASSED}::test_every_event_fits_the_types_of_both_sdks"
    ),
    "output_audio_buffer.cleared": Row(_CALLS, f"{_REFERENCE}::test_from_key_to_call"),
    "response.created": Row(f"{_GA}::test_spoken_turn", f"{_BETA}::test_spoken_turn"),
    "response.done": Row(f"{_GA}::test_spoken_turn", f"{_BETA}::test_spoken_turn"),
    "response.output_item.added": Row(f"{_GA}::test_spoken_turn", f"{_BETA}::test_spoken_turn"),
    "response.output_item.done": Row(f"{_GA}::test_spoken_turn", f"{_BETA}::test_spoken_turn"),
    "response.content_part.added": Row(f"{_GA}::test_spoken_turn", f"{_BETA}::test_spoken_turn"),
    "response.content_part.done": Row(f"{_GA}::test_spoken_turn", f"{_BETA}::test_spoken_turn"),
    "response.output_text.delta": Row(f"{_GA}::test_typed_text", None),
    "response.output_text.done": Row(f"{_GA}::test_typed_text", None),
    "response.text.delta": Row(None, f"{_BETA}::test_typed_text"),
    "response.text.done": Row(None, f"{_BETA}::test_typed_text"),
    "response.output_audio_transcript.delta": Row(f"{_GA}::test_spoken_turn", None),
    "response.output_audio_transcript.done": Row(f"{_GA}::test_spoken_turn", None),
    "response.audio_transcript.delta": Row(None, f"{_BETA}::test_spoken_turn"),
    "response.audio_transcript.done": Row(None, f"{_BETA}::test_spoken_turn"),
    "response.output_audio.delta": Row(f"{_GA}::test_spoken_turn", None),
    "response.output_audio.done": Row(f"{_GA}::test_spoken_turn", None),
    "response.audio.delta": Row(None, f"{_BETA}::test_spoken_turn"),
    "response.audio.done": Row(None, f"{_BETA}::test_spoken_turn"),
    "response.function_call_arguments.delta": Row(f"{_GA}::test_tool_call", f"{_BETA}::test_tool_call"),
    "response.function_call_arguments.done": Row(f"{_GA}::test_tool_call", f"{_BETA}::test_tool_call"),
    "response.mcp_call_arguments.delta": Row(_DELIVERED, None),
    "response.mcp_call_arguments.done": Row(_DELIVERED, None),
    "response.mcp_call.in_progress": Row(_DELIVERED, None),
    "response.mcp_call.completed": Row(_DELIVERED, None),
    "response.mcp_call.failed": Row(_DELIVERED, None),
    "mcp_list_tools.in_progress": Row(_DELIVERED, None),
    "mcp_list_tools.completed": Row(_DELIVERED, None),
    "mcp_list_tools.failed": Row(_DELIVERED, None),
    "rate_limits.updated": Row(f"{_GA}::test_spoken_turn", f"{_BETA}::test_spoken_turn"),
    "bridge.listener.dropped": Row(_OWN, _OWN),
    "bridge.calls": Row(_OWN, _OWN),
    "bridge.call.incoming": Row(_OWN, _OWN),
    "bridge.call.settled": Row(_OWN, _OWN),
    "bridge.call.opened": Row(_OWN, _OWN),
    "bridge.recording.started": Row(_OWN, _OWN),
    "bridge.recording.ended": Row(_OWN, _OWN),
    "bridge.recording.uploaded": Row(_OWN, _OWN),
    "bridge.upstream.dialled": Row(_OWN, _OWN),
    "bridge.upstream.down": Row(_OWN, _OWN),
    "bridge.upstream.up": Row(_OWN, _OWN),
    "bridge.call.closed": Row(_OWN, _OWN),
    "bridge.call.lost": Row(_OWN, _OWN),
    "bridge.call.resumed": Row(_OWN, _OWN),
    "bridge.mark": Row(_MARK, _MARK),
}

# The beta reference's two tables.
_REFERENCE_CLIENT = """
    session.update input_audio_buffer.append input_audio_buffer.commit input_audio_buffer.clear
    conversation.item.create conversation.item.truncate conversation.item.delete response.create response.cancel
""".split()
_REFERENCE_SERVER = """
    error session.created session.updated conversation.created conversation.item.created
    conversation.item.input_audio_transcription.completed conversation.item.input_audio_transcription.failed
    conversation.item.truncated conversation.item.deleted input_audio_buffer.committed input_audio_buffer.cleared
    input_audio_buffer.speech_started input_audio_buffer.speech_stopped response.created response.done
    response.output_item.added response.output_item.done response.content_part.added response.content_part.done
    response.text.delta response.text.done response.audio_transcript.delta response.audio_transcript.done
    response.audio.delta response.audio.done response.function_call_arguments.delta
    response.function_call_arguments.done rate_limits.updated
""".split()

# In a union of the SDK and not a dialect's own: event -> why.
_NOT_GA = {"conversation.item.created": "kept in the GA union for old servers; GA servers say added and done"}

_ROWS = [
    (name, dialect, place)
    for table in (CLIENT, SERVER)
    for name, row in table.items()
    for dialect, place in zip(Row._fields, row, strict=True)
    if place is not None
]


@cache
def _trees(path: str) -> ast.Module:
    return ast.parse((_TESTS / path).read_text())


def _source_of(path: str, function: str) -> str | None:
    """A test's source with its decorators, and that of each constant, helper and imported table that it uses."""
    tree = _trees(path)
    named: dict[str, str] = {}
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            named[node.name] = ast.unparse(node)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
                if isinstance(target, ast.Name):
                    named[target.id] = ast.unparse(node)
        elif isinstance(node, ast.ImportFrom) and node.module == "tests.sdk.every_event":
            named |= {alias.name: (_TESTS / "sdk/every_event.py").read_text() for alias in node.names}
    if function not in named:
        return None
    used = {node.id for node in ast.walk(ast.parse(named[function])) if isinstance(node, ast.Name)}
    return "\n".join([named[function], *(named[name] for name in sorted(used & named.keys()))])


def _is_mentioned(name: str, source: str) -> bool:
    """By its name on the wire, or by the SDK's method of the same name."""
    return f"'{name}'" in source or f'"{name}"' in source or f"connection.{name}(" in source


@pytest.mark.parametrize(("name", "dialect", "place"), _ROWS)
def test_row_points_to_a_test(name: str, dialect: str, place: str) -> None:
    """The test is there, and it speaks of the event."""
    path, _, function = place.partition("::")
    source = _source_of(path, function)
    assert source is not None, f"{place} does not exist"
    assert _is_mentioned(name, source), f"{place} says nothing of {name}"


def _tags(kinds: Any) -> set[str]:
    return {str(kind.__struct_config__.tag) for kind in kinds}


def test_every_event_of_the_bridge_has_a_row() -> None:
    """Whatever the bridge can say or be told."""
    assert _tags(server_event_types()) <= SERVER.keys()
    assert _tags(get_args(ClientEvent)) <= CLIENT.keys()


def test_every_event_of_the_beta_reference_has_a_row() -> None:
    """Each is seen in the beta dialect."""
    assert [name for name in _REFERENCE_SERVER if SERVER[name].beta is None] == []
    assert [name for name in _REFERENCE_CLIENT if CLIENT[name].beta is None] == []


def test_every_event_of_the_sdks_has_a_row() -> None:
    """What a stock client knows in a dialect is seen in that dialect, and nothing else is."""
    ga_server, beta_server = event_names(RealtimeServerEvent).keys(), event_names(BetaServerEvent).keys()
    ga_client, beta_client = event_names(RealtimeClientEvent).keys(), event_names(BetaClientEvent).keys()
    own = {name for name in SERVER.keys() | CLIENT.keys() if name.startswith("bridge.")}
    assert {name for name, row in SERVER.items() if row.ga} - own == ga_server - _NOT_GA.keys()
    assert {name for name, row in SERVER.items() if row.beta} - own == beta_server
    assert {name for name, row in CLIENT.items() if row.ga} - own == ga_client
    # The beta SDK has no type for it, yet its page over WebRTC needs it.
    assert {name for name, row in CLIENT.items() if row.beta} - own - beta_client <= {"output_audio_buffer.clear"}
    assert beta_client <= CLIENT.keys()


def test_rows_agree_with_the_translation() -> None:
    """An event of the bridge is seen in beta exactly where beta has a name for it."""
    for name, in_beta in BETA_NAMES.items():
        assert (in_beta is None) or SERVER[in_beta].beta, name


def test_a_row_that_lies_is_noticed() -> None:
    """The check above sees a test that is not there, and one that says nothing of the event."""
    path, _, function = _DELIVERED.partition("::")
    assert _source_of(path, "test_of_nothing") is None
    source = _source_of(path, function)
    assert source is not None
    assert _is_mentioned("mcp_list_tools.failed", source)
    assert not _is_mentioned("mcp_list_tools.postponed", source)
