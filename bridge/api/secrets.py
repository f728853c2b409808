"""Endpoints where an application's server gets short-lived keys for its clients.

GA's ``client_secrets`` (many sessions until it expires), beta's ``sessions`` and ``transcription_sessions`` (a minute,
one connection), and ``GET /session``, a token server for web pages, which is off unless origins are allowed.
"""

import time
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from bridge.api.body import read_json
from bridge.api.ice_servers import NO_STORE, TurnServers
from bridge.api.keys import Keys
from bridge.calls.keys import Grant, KeyPurpose
from bridge.calls.quotas import KeyAllowance
from bridge.calls.service import CallService
from bridge.config import ORIGIN_PATTERN
from bridge.errors import BadRequest, BridgeError, UnknownCall
from bridge.wire.client_events import read_session
from bridge.wire.dialects.beta import Beta, session_to_beta, session_to_ga
from bridge.wire.ids import new_id
from bridge.wire.reading import bad_event
from bridge.wire.sessions import SessionConfig, SessionRequest, laid_over
from bridge.wire.stats import Dialect
from bridge.wire.translations import TranslationConfig, read_translation

__all__ = [
    "BetaRequest",
    "BridgeCaps",
    "ClientSecretRequest",
    "TranslationSecretRequest",
    "read_request",
    "secret_routes",
]

_PURPOSES = {
    "controller": KeyPurpose.CLIENT,
    "observer": KeyPurpose.LISTENER,
    "agent": KeyPurpose.AGENT,
    "telephone": KeyPurpose.TELEPHONE,
    "publisher": KeyPurpose.PUBLISHER,
    "player": KeyPurpose.PLAYER,
}

_TRANSLATIONS = "/v1/realtime/translations/client_secrets"
_NOTHING = SessionRequest(SessionConfig(), {})
_S = TypeVar("_S")

_TtlS = Annotated[int, Meta(ge=10, le=7200)]


class ExpiresAfter(Struct, frozen=True):
    """How long the key is good for."""

    anchor: Literal["created_at"] = "created_at"
    seconds: _TtlS = 600


class BetaExpiresAfter(ExpiresAfter, frozen=True):
    """The same range as GA's; a beta key is good for a minute unless told otherwise."""

    seconds: _TtlS = 60


class BetaSecret(Struct, frozen=True):
    """What beta's flat session says of its key; SDKs call it ``expires_at`` in a transcription session."""

    expires_after: BetaExpiresAfter | None = None
    expires_at: BetaExpiresAfter | None = None


class BetaRequest(Struct, frozen=True):
    """The part of a beta body that is not about the session."""

    client_secret: BetaSecret | None = None

    @property
    def ttl_s(self) -> int:
        """The number of seconds that the key is good for."""
        secret = self.client_secret or BetaSecret()
        return (secret.expires_after or secret.expires_at or BetaExpiresAfter()).seconds


class BridgeCaps(Struct, frozen=True, forbid_unknown_fields=True):
    """The bridge's own limits on what the key's sessions may do; one that is misspelled must not make a wider key."""

    max_duration_s: Annotated[float, Meta(gt=0, le=604_800)] | None = None
    idle_timeout_s: Annotated[float, Meta(gt=0, le=86_400)] | None = None
    allowed_origins: tuple[Annotated[str, Meta(pattern=ORIGIN_PATTERN)], ...] = ()
    """Web origins, as browsers write them: ``scheme://host[:port]``."""
    role: Literal["controller", "observer", "agent", "telephone", "publisher", "player"] = "controller"
    """What the key is for; one for a telephone opens one call, at the carriers' endpoints alone, one for a publisher
    calls by WHIP alone, and one for a player plays by WHEP alone the call that it names."""
    call_id: str | None = None
    """A running call that the key may attach to, beside those that it opens itself; an agent answers that one only."""
    carrier_call_id: Annotated[str, Meta(min_length=1, max_length=256)] | None = None
    """The carrier's id of the call that a telephone's key is for; the bridge hangs up and transfers by the carrier's
    API only a call whose id is proved, by this or by the carrier's own secret or signature."""
    single_use: bool = False


class ClientSecretRequest(Struct, frozen=True):
    """The body of ``POST /v1/realtime/client_secrets``; ``bridge`` is this server's own."""

    expires_after: ExpiresAfter = ExpiresAfter()
    session: SessionConfig | UnsetType = UNSET
    bridge: BridgeCaps = BridgeCaps()


class TranslationSecretRequest(Struct, frozen=True):
    """The body of ``POST /v1/realtime/translations/client_secrets``."""

    session: TranslationConfig
    expires_after: ExpiresAfter = ExpiresAfter()
    bridge: BridgeCaps = BridgeCaps()


def secret_routes(keys: Keys, calls: CallService, allowance: KeyAllowance, turn: TurnServers) -> list[Route]:
    """Makes the routes that mint keys; within the ``allowance`` also for web pages that have none.

    ``turn`` are the TURN servers that are named beside a key.
    """

    async def admit_minter(request: Request) -> None:
        await keys.admit_admin(request.headers)
        calls.require_accepting()  # if the server stops, a key of it is good for nothing

    async def client_secrets(request: Request) -> Response:
        await admit_minter(request)
        wanted, session = read_request(await read_json(request), ClientSecretRequest)
        if session is not None and session.config.type == "translation":
            raise BadRequest(
                f"Keys for translations are minted at {_TRANSLATIONS}.", code="invalid_value", param="session.type"
            )
        session = calls.complete_session(session or _NOTHING)
        return await mint(wanted.bridge, wanted.expires_after.seconds, session)

    async def translation_secrets(request: Request) -> Response:
        await admit_minter(request)
        body = await read_json(request)
        session = read_translation(body.get("session") if isinstance(body, dict) else None)
        wanted, _ = read_request({**body, "session": None}, ClientSecretRequest)
        session = calls.complete_session(session)
        return await mint(wanted.bridge, wanted.expires_after.seconds, session)

    async def mint(caps: BridgeCaps, ttl_s: int, session: SessionRequest) -> Response:
        grant = Grant(
            key_id=new_id("key"),
            config=session,
            purpose=_PURPOSES[caps.role],
            call_id=caps.call_id,
            carrier_call_id=caps.carrier_call_id,
            max_duration_s=caps.max_duration_s,
            idle_timeout_s=caps.idle_timeout_s,
            allowed_origins=caps.allowed_origins,
            is_single_use=caps.single_use or caps.role == "telephone",
        )
        value = await keys.store.mint(grant, ttl_s=ttl_s)
        shown = msgspec.to_builtins(session.config)
        if session.config.type == "translation":  # whose language the bridge does not know
            shown = laid_over(shown, {"audio": session.body.get("audio") or {}})
        told = {"value": value, "expires_at": int(time.time()) + ttl_s, "session": shown}
        return _secret(told | _ice_servers(turn, grant, ttl_s))

    async def sessions(request: Request) -> Response:
        await admit_minter(request)
        return _secret(await _mint_beta(keys, calls, turn, await read_json(request)))

    async def transcription_sessions(request: Request) -> Response:
        await admit_minter(request)
        return _secret(await _mint_beta(keys, calls, turn, await read_json(request), is_transcription=True))

    async def session_for_page(request: Request) -> Response:
        if not allowance.is_open:
            raise UnknownCall(
                "There is no token server here: it needs the settings page_keys and allow_origin.", code="not_found"
            )
        origin = keys.admit_page(request.headers)
        calls.require_accepting()
        await allowance.count_key(request.client.host if request.client is not None else "")
        try:
            wanted = {key: value for key, value in request.query_params.items() if key in ("model", "voice")}
            return _secret(await _mint_beta(keys, calls, turn, wanted, allowed_origins=(origin,)))
        except BridgeError as error:
            return JSONResponse({"error": "Failed to create session", "message": error.message}, 500)

    return [
        Route("/v1/realtime/client_secrets", client_secrets, methods=["POST"]),
        Route(_TRANSLATIONS, translation_secrets, methods=["POST"]),
        Route("/v1/realtime/sessions", sessions, methods=["POST"]),
        Route("/v1/realtime/transcription_sessions", transcription_sessions, methods=["POST"]),
        Route("/session", session_for_page, methods=["GET"]),
    ]


def _secret(content: dict[str, Any]) -> Response:
    """Returns an answer with a key in it, which nobody may store."""
    return JSONResponse(content, headers=NO_STORE)


def _ice_servers(turn: TurnServers, grant: Grant, ttl_s: int) -> dict[str, Any]:
    """Returns the TURN servers for a key that makes calls over WebRTC, if there are any."""
    may_call = grant.purpose in (KeyPurpose.CLIENT, KeyPurpose.PAGE)
    servers = turn.ice_servers(grant.key_id, ttl_s=ttl_s) if may_call else []
    return {"iceServers": msgspec.to_builtins(servers)} if servers else {}


async def _mint_beta(
    keys: Keys,
    calls: CallService,
    turn: TurnServers,
    flat: Any,
    *,
    is_transcription: bool = False,
    allowed_origins: tuple[str, ...] = (),
) -> dict[str, Any]:
    """Mints a key and returns a flat session with it as its ``client_secret``.

    The key is good for a minute, unless told otherwise, and for one connection.
    """
    if not isinstance(flat, dict):
        raise BadRequest("The body must be a JSON object.")
    ttl_s = _convert({"client_secret": flat.get("client_secret")}, BetaRequest).ttl_s
    beta = Beta()
    kind = "transcription" if is_transcription else "realtime"
    session = calls.complete_session(session_to_ga(flat, beta, kind=kind))
    grant = Grant(
        key_id=new_id("key"),
        purpose=KeyPurpose.PAGE if allowed_origins else KeyPurpose.CLIENT,
        config=session,
        dialect=Dialect.BETA,
        temperature=beta.temperature,
        metadata=beta.metadata,
        is_single_use=True,
        allowed_origins=allowed_origins,
    )
    value = await keys.store.mint(grant, ttl_s=ttl_s)
    shown = session_to_beta(msgspec.to_builtins(session.config), beta)
    secret = {"value": value, "expires_at": int(time.time()) + ttl_s}
    return {**shown, "client_secret": secret} | _ice_servers(turn, grant, ttl_s)


def read_request(body: Any, kind: type[_S]) -> tuple[_S, SessionRequest | None]:
    """Returns a request's body as a ``kind``, and the session that it asks for, if any.

    Raises ``BadRequest`` or ``BadEvent``. Null stands for "not given", as in a session. What the bridge does not know
    of the session is no error here.
    """
    session = body.get("session") if isinstance(body, dict) else None
    rest = {name: value for name, value in body.items() if name != "session"} if isinstance(body, dict) else body
    return _convert(rest, kind), None if session is None else read_session(session)


def _convert(value: Any, kind: type[_S]) -> _S:
    try:
        return msgspec.convert(_without_nulls(value), kind)
    except msgspec.ValidationError as error:
        complaint = bad_event(error)
        raise BadRequest(complaint.message, code=complaint.code, param=complaint.param) from None


def _without_nulls(value: Any) -> Any:
    """Returns an object without the fields that are null, at each depth; any other value as it is."""
    if not isinstance(value, dict):
        return value
    return {name: _without_nulls(item) for name, item in value.items() if item is not None}
