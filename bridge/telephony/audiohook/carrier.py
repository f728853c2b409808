"""The row of Genesys AudioHook Monitor: its sessions are signed like Audio Connector's, and only listened to."""

from starlette.requests import HTTPConnection

from bridge.errors import BadRequest
from bridge.media.mix import mix_interleaved
from bridge.telephony.audiohook.dialect import BOTH, CHANNELS, AudioHook
from bridge.telephony.audiohook.settings import AudioHookSettings
from bridge.telephony.carrier import Carrier, CarrierHost, CarrierSocket
from bridge.telephony.carrier_calls import Trust
from bridge.telephony.genesys.carrier import checks_of, new_session, require_signed
from bridge.wire.sessions import AudioConfig, AudioInput, ServerVad, SessionConfig, SessionRequest

__all__ = ["AUDIOHOOK"]

_CHANNEL = "channel"
_UNANSWERED = SessionRequest.of(
    SessionConfig(audio=AudioConfig(input=AudioInput(turn_detection=ServerVad(create_response=False))))
)
"""A session that tells turns, but gives no answers, because nobody would hear them."""


def _sign_in(host: CarrierHost[AudioHookSettings], request: HTTPConnection) -> Trust:
    require_signed(host, request, AudioHook.name)
    if _channel(request) not in (*CHANNELS, BOTH):
        raise BadRequest(f"channel must be {', '.join(CHANNELS)} or {BOTH}.", code="invalid_value", param=_CHANNEL)
    return Trust(is_admitted=True, session=_UNANSWERED, checks=_checks(host, request))


def _channel(request: HTTPConnection) -> str:
    return request.query_params.get(_CHANNEL, CHANNELS[0])


def _checks(host: CarrierHost[AudioHookSettings], request: HTTPConnection) -> str:
    return checks_of(host, AudioHook.name)


AUDIOHOOK = Carrier(
    name=AudioHook.name,
    settings=AudioHookSettings,
    is_open=lambda settings: bool(settings.audiohook_api_key),
    socket=CarrierSocket(
        what="Genesys AudioHook Monitor, which is only listened to and gets no sound back",
        opened_by="its API key and Genesys's signature; `?channel=internal` selects the agent instead of the "
        "customer, `?channel=both` selects both",
        sign_in=_sign_in,
        checks=_checks,
        new_dialect=lambda request: new_session(AudioHook, request, channel=_channel(request), mix=mix_interleaved),
    ),
)
