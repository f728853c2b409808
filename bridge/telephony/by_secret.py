"""A carrier's socket and webhook if a secret or a telephone's key opens them, wherever the carrier can show one."""

from typing import Any

from starlette.requests import HTTPConnection, Request

from bridge.errors import Unauthorized
from bridge.telephony.carrier import CarrierHost, CarrierSocket, HttpEndpoint
from bridge.telephony.carrier_calls import Trust
from bridge.telephony.dialect import TOKEN_PARAMETER
from bridge.telephony.json_dialect import JsonDialect, JsonSpec
from bridge.telephony.sign_in import TELEPHONES_KEYS, basic_password, bearer, counted, is_one_of, require_secrets
from bridge.telephony.webhook import webhook

__all__ = ["password_webhook", "secret_socket", "shown_token"]


def secret_socket(
    spec: JsonSpec, setting: str, *, what: str, subprotocols: tuple[str, ...] = (), is_secret_shown: bool = True
) -> CarrierSocket[Any]:
    """Returns the socket of a dialect that is data; a value of ``setting`` or a telephone's key opens it.

    If ``is_secret_shown`` is unset, the setting signs other things, and only a key opens the socket. The carrier shows
    either as the password of HTTP Basic, as Bearer token, as ``?token=``, or as the parameter ``token`` of the start.
    It is judged when the call starts, before any sound.
    """

    def checks(host: CarrierHost[Any], request: HTTPConnection) -> str:
        shown = f"{counted(setting, getattr(host.settings, setting))}, " if is_secret_shown else ""
        return f"{shown}{TELEPHONES_KEYS}"

    def sign_in(host: CarrierHost[Any], request: HTTPConnection) -> Trust:
        secrets = require_secrets(setting, getattr(host.settings, setting))
        return Trust(secrets=secrets if is_secret_shown else (), checks=checks(host, request))

    return CarrierSocket(
        what=what,
        opened_by=("its secret or a " if is_secret_shown else "a ")
        + "single-use token, by HTTP Basic, Bearer, `?token=`, or in the first message",
        sign_in=sign_in,
        checks=checks,
        new_dialect=lambda request: JsonDialect(spec, shown_token(request), request.query_params),
        subprotocols=subprotocols,
    )


def shown_token(request: HTTPConnection) -> str | None:
    """Returns what the upgrade shows: the password of HTTP Basic, a Bearer token, or ``?token=``."""
    headers = request.headers
    return basic_password(headers) or bearer(headers) or request.query_params.get(TOKEN_PARAMETER)


def password_webhook(spec: JsonSpec, setting: str, *, write: Any, **more: Any) -> HttpEndpoint[Any]:
    """Returns a webhook (see ``webhook``) whose caller shows a value of ``setting`` as the password of HTTP Basic."""

    def require(host: CarrierHost[Any], request: Request) -> None:
        secrets = require_secrets(setting, getattr(host.settings, setting))
        password = basic_password(request.headers)
        if password is None:
            raise Unauthorized("Give the password by HTTP Basic authentication.", code="missing_secret")
        if not is_one_of(password, secrets):
            raise Unauthorized("The password is not valid here.", code="invalid_secret")

    return webhook(
        spec.name,
        title=spec.title,
        require=require,
        sign_in=lambda host, request, body, fields: None,
        write=write,
        checks=lambda host, request: counted(setting, getattr(host.settings, setting)),
        **more,
    )
