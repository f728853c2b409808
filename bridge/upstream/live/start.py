"""What a Live session is asked for: how the request is written for each transport, and what its caller sees of it.

The two transports differ in a few fields. Over a WebSocket a session names its sound's format; over WebRTC it does not,
and has fields of its own. If the caller's transport is not the service's, the bridge takes out what the service would
refuse, and puts back what the caller expects.
"""

from dataclasses import dataclass
from typing import Any

from bridge.wire.audio import G711_ALAW, G711_ULAW, PCM16, AudioFormat, pcm16_at
from bridge.wire.server_events import Body

__all__ = ["LiveStart", "live_format"]

_OF_WEBRTC = ("client", "idle_timeout_s", "wake_policy")
"""Fields that only a session over WebRTC has."""

_PCM_HZ = (16_000, 24_000)


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveStart:
    """A session that is to be started."""

    session: Body
    """The session as its caller has asked for it."""
    is_socket_caller: bool
    """Whether the caller has come over a WebSocket, and so names the format of its sound."""
    fork_of: str | None = None
    """The service's id of the stored session that it goes on from; None if it begins anew."""

    @property
    def audio_format(self) -> AudioFormat:
        """The format of the sound both ways, if the service is reached over a WebSocket."""
        return live_format(self.session) if self.is_socket_caller else PCM16

    def for_socket(self, model: str | None) -> Body:
        """The session as a service takes it over a WebSocket; ``model`` is the model's name there, if it is another."""
        session = _named(_without(self.session, _OF_WEBRTC), model)
        if self.is_socket_caller:
            return session
        audio = session.get("audio")
        kept = audio if isinstance(audio, dict) else {}
        return {**session, "audio": {**kept, "format": {"type": "audio/pcm", "rate": PCM16.rate_hz}}}

    def for_post(self, model: str | None) -> Body:
        """The session as a service takes it with an offer.

        What may pass its data channel is left out: the bridge filters, because others listen who may hear more.
        """
        return _named(_without(_without_format(self.session), ("client",)), model)

    def as_shown(self, resource: Body) -> Body:
        """The session as its caller may see it, from how the service has described it."""
        shown = dict(resource)
        if self.is_socket_caller:
            asked = self.session.get("audio")
            audio_format = asked.get("format") if isinstance(asked, dict) else None
            audio = shown.get("audio")
            if not (isinstance(audio, dict) and "format" in audio):
                usual = {"type": "audio/pcm", "rate": PCM16.rate_hz}
                shown["audio"] = {**(audio if isinstance(audio, dict) else {}), "format": audio_format or usual}
            return shown
        shown = _without_format(shown)
        if "client" in self.session and "client" not in shown:
            shown["client"] = self.session["client"]
        return shown


def live_format(session: Body) -> AudioFormat:
    """The format that a session over a WebSocket names for its sound; PCM16 at 24 kHz if it names none that exists."""
    audio = session.get("audio")
    named: Any = audio.get("format") if isinstance(audio, dict) else None
    if not isinstance(named, dict):
        return PCM16
    match named.get("type"):
        case "audio/pcmu":
            return G711_ULAW
        case "audio/pcma":
            return G711_ALAW
    rate = named.get("rate")
    return pcm16_at(rate) if rate in _PCM_HZ else PCM16


def _without(session: Body, names: tuple[str, ...]) -> Body:
    return {name: value for name, value in session.items() if name not in names}


def _without_format(session: Body) -> Body:
    audio = session.get("audio")
    if not isinstance(audio, dict) or "format" not in audio:
        return dict(session)
    rest = _without(audio, ("format",))
    return {**session, "audio": rest} if rest else _without(session, ("audio",))


def _named(session: Body, model: str | None) -> Body:
    return {**session, "model": model} if model is not None and "model" in session else session
