"""A session on its stage, with fakes for everyone around it."""

import base64
import json
from typing import Any

from bridge.context import CallContext
from bridge.media.playback import Part
from bridge.session.budget import Budget
from bridge.session.fanout.backlog import Limits
from bridge.session.fanout.listener import Listener
from bridge.session.info import CallInfo
from bridge.session.session import Session
from bridge.wire import items
from bridge.wire import server_events as server
from bridge.wire.audio import PCM16, AudioFormat
from bridge.wire.choices import Choices
from bridge.wire.sessions import default_session
from bridge.wire.stats import WEBRTC, WEBSOCKET, ListenerRole, Transport
from tests.fakes import FakeClock, FakeLeg, FakeSink, FakeUpstream, JsonEvent

__all__ = ["IDS", "MS", "PART", "Call", "Stage"]

PART = Part("resp_1", "item_1", 0, 0)
IDS: dict[str, Any] = {"response_id": "resp_1", "item_id": "item_1", "output_index": 0, "content_index": 0}
MS = 48  # bytes of PCM16 at 24 kHz


class Stage:
    """A session with its upstream, and whatever the test attaches to it."""

    def __init__(
        self,
        *,
        transport: Transport = WEBSOCKET,
        max_listeners: int = 10,
        limits: Limits | None = None,
        budget: Budget | None = None,
        resume_grace_s: float = 0.0,
    ) -> None:
        self.upstream = FakeUpstream()
        self.ended = 0
        self.clock = FakeClock(100.0)
        call_id = "rtc_1" if transport == "webrtc" else "sess_1"
        context = CallContext(call_id=call_id, session_id="sess_1")
        self.session = Session(
            CallInfo(context, transport=transport, model="parrot", started_at=0.0),
            self.upstream,
            limits=limits or Limits(),
            max_listeners=max_listeners,
            on_closed=self._on_closed,
            clock=self.clock,
            budget=budget,
            resume_grace_s=resume_grace_s,
        )
        self.session.start(default_session(session_id="sess_1", model="parrot", expires_at=0))

    def _on_closed(self, session: Session) -> None:
        assert session is self.session
        self.ended += 1

    def attach(
        self, role: str = "controller", audio: AudioFormat | None = None, room: int | None = None
    ) -> tuple[Listener, FakeSink]:
        sink = FakeSink(room)
        return self.session.audience.attach(sink, role=ListenerRole(role), choices=Choices(audio=audio)), sink

    def send(self, listener: Listener, event: JsonEvent) -> None:
        self.session.receive_client_text(listener, json.dumps(event))

    def speak(self, sound: bytes) -> None:
        """The caller's sound, in the owner's format."""
        owner = self.session.audience.owner
        assert owner is not None, "it speaks"
        self.send(owner, {"type": "input_audio_buffer.append", "audio": base64.b64encode(sound).decode()})

    def answer(self, pcm: bytes, part: Part = PART) -> None:
        """The upstream's sound, in pieces."""
        for at in range(0, len(pcm), 200 * MS):
            self.upstream.downstream.deliver_audio(part, pcm[at : at + 200 * MS])

    def finish_answer(self, response_id: str = "resp_1") -> None:
        self.upstream.downstream.deliver_event(server.OutputAudioDone(**IDS))
        response = items.Response(id=response_id, status="completed", output_modalities=["audio"])
        self.upstream.downstream.deliver_event(server.ResponseDone(response=response))

    def interrupt(self) -> None:
        self.upstream.downstream.deliver_event(server.InputAudioBufferSpeechStarted(audio_start_ms=0, item_id="item_2"))


class Call(Stage):
    """A WebRTC call with a peer and its data channel."""

    def __init__(
        self,
        *,
        max_listeners: int = 10,
        limits: Limits | None = None,
        hangs: bool = False,
        leg_format: AudioFormat = PCM16,
        budget: Budget | None = None,
    ) -> None:
        super().__init__(transport=WEBRTC, max_listeners=max_listeners, limits=limits, budget=budget)
        port = self.session.legs.new_port()
        self.leg = FakeLeg(port, hangs=hangs, audio_format=leg_format)
        self.session.legs.connect_leg(self.leg, port)
        self.channel = FakeSink()

    def connect(self) -> "Call":
        self.leg.connect(self.channel)
        return self
