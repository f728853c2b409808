"""What a Live session means to a GA session, and how a session is told to Live clients. What has no meaning is refused.

The model that talks and the model that works are one here: the GA session's own. A task that it delegates is a call of
a function: of the one called ``delegate``, if the application works, else of the tools of ``delegation.responses``.
"""

from typing import Any

import msgspec
from msgspec import UNSET

from bridge.errors import BadEvent
from bridge.wire.checks import require_shallow
from bridge.wire.client_events import read_session
from bridge.wire.live.sessions import (
    ClientDelegation,
    CustomVoice,
    DecisionsDelegation,
    Delegation,
    LiveAudio,
    LiveOutput,
    LiveSession,
    LiveUpdate,
    ResponsesDelegation,
    ResponsesSettings,
)
from bridge.wire.server_events import Body
from bridge.wire.sessions import SessionRequest

__all__ = ["DELEGATE", "asked_of", "history_of", "laid_over_live", "refuse_unmapped", "resource_of"]

DELEGATE = "delegate"
"""The name of the function by which the model gives a task to the application."""

_DELEGATE_TOOL = {
    "type": "function",
    "name": DELEGATE,
    "description": (
        "Gives a task to the application behind you, which can look things up and act. Call it for everything that "
        "you cannot know or do by yourself, and go on talking; the result comes later."
    ),
    "parameters": {
        "type": "object",
        "properties": {"task": {"type": "string", "description": "The task, in one or two sentences."}},
        "required": ["task"],
    },
}
_TRANSCRIBER = "gpt-4o-mini-transcribe"
_DEFAULT_VOICE = "marin"
_UNMAPPED = ("reasoning", "text", "service_tier")
_SPOKEN = {"developer": "system"}


def refuse_unmapped(session: LiveSession | LiveUpdate, path: str = "session") -> None:
    """Raises ``BadEvent``, which names the field, for what no GA session can do."""
    delegation = session.delegation
    if isinstance(delegation, DecisionsDelegation):
        raise _unmapped(f"{path}.delegation.type", "Only services that speak Live delegate to the Decision API.")
    if session.triggers is not UNSET and session.triggers:
        raise _unmapped(f"{path}.triggers", "Only services that speak Live have triggers.")
    if isinstance(delegation, ResponsesDelegation | ClientDelegation) and delegation.acknowledgement_delay_ms:
        param = f"{path}.delegation.acknowledgement_delay_ms"
        raise _unmapped(param, "Delegations are not acknowledged automatically here.")
    if isinstance(delegation, ResponsesDelegation) and isinstance(delegation.responses, ResponsesSettings):
        _refuse_of_responses(delegation.responses, f"{path}.delegation.responses")
    if isinstance(session, LiveSession):
        if session.store is True:
            raise _unmapped(f"{path}.store", "Only services that speak Live store sessions.")
        for name in ("idle_timeout_s", "wake_policy"):
            if getattr(session, name) not in (UNSET, None):
                raise _unmapped(f"{path}.{name}", "Only services that speak Live pause.")


def _refuse_of_responses(settings: ResponsesSettings, path: str) -> None:
    for index, tool in enumerate(() if settings.tools is UNSET else settings.tools):
        if tool.get("type") != "function":
            raise _unmapped(f"{path}.tools[{index}].type", "Tools must be functions of the application here.")
    for name in _UNMAPPED:
        value = getattr(settings, name)
        if value is not UNSET and value is not None and value != "auto":
            raise _unmapped(f"{path}.{name}", "Here the model that talks also does the work, and has no such field.")


def _unmapped(param: str, why: str) -> BadEvent:
    return BadEvent(
        f"'{param}' is not supported by the upstream here. {why}", code="unsupported_parameter", param=param
    )


def asked_of(session: LiveSession, path: str = "session") -> SessionRequest:
    """Returns what a GA session is asked for; raises ``BadEvent``, which names Live's field."""
    refuse_unmapped(session, path)
    turns = {"type": "server_vad", "create_response": True, "interrupt_response": True}
    audio: Body = {"input": {"turn_detection": turns, "transcription": {"model": _TRANSCRIBER}}}
    voice = _voice(session)
    if voice is not None:
        audio["output"] = {"voice": voice}
    body: Body = {"type": "realtime", "audio": audio, **_of_delegation(session)}
    request = read_session(body, path)
    if request.complaint is not None:
        raise _in_live_words(request.complaint)
    return request


def _of_delegation(session: LiveSession) -> Body:
    delegation = session.delegation
    body: Body = {}
    texts = [session.instructions if isinstance(session.instructions, str) else ""]
    if isinstance(delegation, ResponsesDelegation) and isinstance(delegation.responses, ResponsesSettings):
        settings = delegation.responses
        texts.append(settings.instructions if isinstance(settings.instructions, str) else "")
        body["tools"] = [_as_tool(tool) for tool in (() if settings.tools is UNSET else settings.tools)]
        for name in ("tool_choice", "parallel_tool_calls"):
            if getattr(settings, name) is not UNSET:
                body[name] = getattr(settings, name)
        if isinstance(settings.max_output_tokens, int):
            body["max_output_tokens"] = settings.max_output_tokens
    else:
        body["tools"] = [_DELEGATE_TOOL]
    text = "\n\n".join(filter(str.strip, texts))
    if text:
        body["instructions"] = text
    return body


def _as_tool(tool: Body) -> Body:
    """Returns a function without what only the Responses API has."""
    return {name: value for name, value in tool.items() if name not in ("strict", "defer_loading")}


def _in_live_words(error: BadEvent) -> BadEvent:
    """Returns GA's complaint with the name that the field has in Live."""
    param = error.param
    for name in ("tools", "tool_choice", "parallel_tool_calls", "max_output_tokens"):
        if param is not None and param.startswith(f"session.{name}"):
            param = param.replace("session.", "session.delegation.responses.", 1)
    return BadEvent(error.message, code=error.code, param=param)


def _voice(session: LiveSession) -> Any:
    output = session.audio.output if isinstance(session.audio, LiveAudio) else UNSET
    if not isinstance(output, LiveOutput) or output.voice is UNSET:
        return None
    return {"id": output.voice.id} if isinstance(output.voice, CustomVoice) else output.voice


def history_of(session: LiveSession) -> list[Body]:
    """Returns the history with which a session begins, as items of GA."""
    items = []
    for message in session.input or ():
        kind = "output_text" if message.role == "assistant" else "input_text"
        role = _SPOKEN.get(message.role, message.role)
        items.append({"type": "message", "role": role, "content": [{"type": kind, "text": message.content[0].text}]})
    return items


def laid_over_live(session: LiveSession, update: LiveUpdate) -> LiveSession:
    """Returns the session with an update laid over it; raises ``BadEvent`` if that changes who works."""
    if update.delegation is UNSET or update.delegation is None:
        return session
    before: Delegation = (
        session.delegation if isinstance(session.delegation, ResponsesDelegation) else ClientDelegation()
    )
    after = update.delegation
    if type(before) is not type(after):
        message = "The type of the delegation cannot be changed after the session has started."
        raise BadEvent(message, code="immutable_field_update", param="session.delegation.type")
    if isinstance(before, ResponsesDelegation) and isinstance(after, ResponsesDelegation):
        old, new = before.responses, after.responses
        if isinstance(old, ResponsesSettings) and isinstance(new, ResponsesSettings):
            given = {name: getattr(new, name) for name in new.__struct_fields__ if getattr(new, name) is not UNSET}
            after = msgspec.structs.replace(after, responses=msgspec.structs.replace(old, **given))
        elif new is UNSET:
            after = msgspec.structs.replace(after, responses=old)
    return msgspec.structs.replace(session, delegation=after)


def resource_of(session: LiveSession, *, call_id: str, expires_at: int, voice: Any, is_socket: bool) -> Body:
    """Returns the session as Live clients are told it, with its defaults."""
    whole: Body = msgspec.to_builtins(session)
    require_shallow(whole)
    for name in ("idle_timeout_s", "wake_policy"):
        whole.pop(name, None)
    audio = whole.setdefault("audio", {})
    audio.setdefault("output", {}).setdefault("voice", voice or _DEFAULT_VOICE)
    if is_socket:
        audio.setdefault("format", {"type": "audio/pcm", "rate": 24000})
    if whole.get("delegation") is None:
        whole["delegation"] = {"type": "client"}
    whole.setdefault("store", False)
    return {"id": call_id, "expires_at": expires_at, "status": "active", **whole}
