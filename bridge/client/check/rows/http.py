"""Rows about HTTP: keys, offers, their answers, and who may connect."""

from typing import Any

from bridge.client.check.rows.common import GUIDE, REFERENCE
from bridge.client.check.steps import AnswerFits, Connect, Dialect, Expect, PostOffer, Request, Row, Transport
from bridge.client.check.values import ANY, ID, NUMBER, TEXT, OneOf

__all__ = ["ROWS"]

_CALLS = REFERENCE.format("calls")
_SECRETS = REFERENCE.format("client secrets")
_NO_KEY = "sk-this-is-no-key-of-anybody"
_ERROR = {"error.message": TEXT, "error.type": TEXT}
_MINTED = Request(
    "POST",
    "/realtime/client_secrets",
    (200,),
    json={"session": {"type": "realtime", "model": "$model"}},
    fields={"value": ID, "expires_at": NUMBER, "session.type": "realtime"},
    keep={"secret": "value"},
)


def _row(*, over: Transport = "websocket", dialects: tuple[Dialect, ...] = ("ga",), **more: Any) -> Row:
    """Returns a row that makes its own connections, if it needs any. It runs for one transport only."""
    return Row(transports=(over,), dialects=dialects, opens=False, **more)


ROWS: tuple[Row, ...] = (
    _row(
        id="keys.mint",
        says="POST /realtime/client_secrets returns a short-lived key, its expiry and its session.",
        source=_SECRETS,
        steps=(_MINTED,),
        is_optional=True,
    ),
    _row(
        id="keys.minted_opens",
        says="A short-lived key opens a WebSocket.",
        source=_SECRETS,
        steps=(_MINTED, Connect(key="$secret"), Expect("session.created")),
        is_optional=True,
    ),
    _row(
        id="keys.minted_in_browser",
        says="A browser can send its key as a subprotocol, and the subprotocol realtime is selected.",
        source=GUIDE.format("WebSocket"),
        steps=(
            _MINTED,
            Connect(key="$secret", subprotocols=("realtime",), as_subprotocol=True),
            Expect("session.created"),
        ),
        is_optional=True,
    ),
    _row(
        id="keys.minted_session",
        says="The session of a short-lived key has the settings with which the key was minted.",
        source=_SECRETS,
        steps=(
            Request(
                "POST",
                "/realtime/client_secrets",
                (200,),
                json={"session": {"type": "realtime", "model": "$model", "instructions": "Be brief."}},
                keep={"secret": "value"},
            ),
            Connect(key="$secret"),
            Expect("session.created", {"session.instructions": "Be brief."}),
        ),
        is_optional=True,
    ),
    _row(
        id="keys.beta_mint",
        says="POST /realtime/sessions returns a flat session with a client_secret.",
        source=REFERENCE.format("sessions (beta)"),
        steps=(
            Request(
                "POST",
                "/realtime/sessions",
                (200,),
                json={"model": "$model"},
                headers={"OpenAI-Beta": "realtime=v1"},
                fields={"client_secret.value": ID, "client_secret.expires_at": NUMBER, "modalities": ANY},
            ),
        ),
        is_optional=True,
        dialects=("beta",),
    ),
    _row(
        id="keys.wrong_http",
        says="A wrong key is refused with 401 invalid_api_key over HTTP.",
        source=REFERENCE.format("authentication"),
        steps=(
            Request(
                "POST",
                "/realtime/client_secrets",
                (401,),
                json={},
                key=_NO_KEY,
                fields={**_ERROR, "error.code": "invalid_api_key"},
            ),
        ),
        is_optional=True,
        needs_key=True,
    ),
    _row(
        id="keys.wrong_socket",
        says="A wrong key is refused with 401 when a WebSocket is opened.",
        source=REFERENCE.format("authentication"),
        steps=(Connect(key=_NO_KEY, status=401),),
        needs_key=True,
        dialects=("ga", "beta"),
    ),
    _row(
        id="calls.offer",
        says="An offer is answered with 201, an SDP answer and the call's Location.",
        source=_CALLS,
        steps=(PostOffer(), AnswerFits()),
        over="webrtc",
    ),
    _row(
        id="calls.form",
        says="An offer may come in a form, with its session.",
        source=_CALLS,
        steps=(PostOffer(as_form=True), AnswerFits()),
        over="webrtc",
    ),
    _row(
        id="calls.no_offer",
        says="A body that is not SDP is refused with 400 and an error object.",
        source=_CALLS,
        steps=(
            Request(
                "POST",
                "/realtime/calls",
                (400,),
                body=b"this is no SDP",
                headers={"Content-Type": "application/sdp"},
                fields=_ERROR,
            ),
        ),
        over="webrtc",
    ),
    _row(
        id="calls.location_exposed",
        says="A page from another origin may read Location.",
        source="Fetch standard, CORS; @openai/agents-realtime reads it",
        steps=(
            Request(
                "POST",
                "/realtime/calls",
                (400,),
                body=b"this is no SDP",
                headers={"Content-Type": "application/sdp", "Origin": "http://localhost:5173"},
                has_headers={"Access-Control-Expose-Headers": "location"},
            ),
        ),
        is_optional=True,
        over="webrtc",
    ),
    _row(
        id="calls.unknown",
        says="Attaching to a call that does not exist is refused with 404.",
        source="observed: call_id_not_found",
        steps=(Connect(query={"call_id": "rtc_that_is_not"}, status=404, fields={"error.code": "call_id_not_found"}),),
        is_optional=True,
    ),
    _row(
        id="calls.hang_up_unknown",
        says="Hanging up a call that does not exist is refused with 404.",
        source=_CALLS,
        steps=(Request("POST", "/realtime/calls/rtc_that_is_not/hangup", (404,), fields=_ERROR),),
        over="webrtc",
    ),
    _row(
        id="models.list",
        says="GET /models lists models.",
        source=REFERENCE.format("models"),
        steps=(Request("GET", "/models", (200,), fields={"object": "list", "data.0.id": ID}),),
        is_optional=True,
    ),
    _row(
        id="calls.not_there",
        says="An unknown path is answered with 404, not with a web page.",
        source=REFERENCE.format("errors"),
        steps=(
            Request("GET", "/realtime/that_is_not", (404,), fields={"error.type": OneOf(("invalid_request_error",))}),
        ),
        is_optional=True,
    ),
)
