"""A caller on GStreamer's webrtcbin, run by the system's Python: ``python3 webrtcbin.py call INPUTS``.

From its first moment it sends sound, silence mostly. It speaks once its standard input has ended, at the times
``turnsAtS``, in seconds since it has connected, and each time only if the answer before has been played. Then it hangs
up itself or waits until the bridge does. What it observes it prints as JSON, an observation a line; the packets that it
has heard come as base64.
"""

import base64
import json
import sys
import threading
import time
import urllib.request
from collections import deque
from pathlib import Path
from typing import Any

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstSdp", "1.0")
gi.require_version("GstWebRTC", "1.0")
from gi.repository import GLib, Gst, GstSdp, GstWebRTC  # noqa: E402

_FRAME_NS = 20_000_000
_FRAME_BYTES = 2 * 960
_FIXED_HEADER_BYTES = 12
_PIPELINE = (
    "webrtcbin name=rtc bundle-policy=max-bundle "
    "appsrc name=voice is-live=true format=time caps=audio/x-raw,format=S16LE,rate=48000,channels=1,layout=interleaved "
    "! opusenc ! rtpopuspay pt=96 ! application/x-rtp,media=audio,encoding-name=OPUS,payload=96 ! rtc."
)


def observe(kind: str, **fields: Any) -> None:
    """Prints one observation, whole, whichever thread it is in."""
    sys.stdout.write(json.dumps({"type": kind, **fields}) + "\n")
    sys.stdout.flush()


class Caller:
    """One call."""

    def __init__(self, inputs: dict[str, Any]) -> None:
        self._inputs = inputs
        self._loop = GLib.MainLoop()
        self._frames: deque[bytes] = deque()
        self._packets: list[tuple[int, str]] = []
        self._kept: list[Any] = []  # a reply owns what is in it
        self._turns = 0
        self._connected_at = 0.0
        self._is_over = threading.Event()
        self._pipeline = Gst.parse_launch(_PIPELINE)
        self._rtc = self._pipeline.get_by_name("rtc")
        self._voice = self._pipeline.get_by_name("voice")

    def run(self) -> None:
        """Until the call has ended."""
        self._rtc.connect("pad-added", self._on_pad)
        self._rtc.connect("notify::ice-gathering-state", self._on_gathering)
        self._rtc.connect("notify::connection-state", self._on_state)
        self._pipeline.set_state(Gst.State.READY)
        self._channel = self._rtc.emit("create-data-channel", "oai-events", None)
        self._channel.connect("on-message-string", lambda _, text: GLib.idle_add(self._on_event, text))
        self._channel.connect("on-open", lambda _: GLib.idle_add(self._on_open))
        self._channel.connect("on-close", lambda _: GLib.idle_add(self._loop.quit))
        self._rtc.connect("on-negotiation-needed", self._on_negotiation)
        self._pipeline.set_state(Gst.State.PLAYING)
        speaking = threading.Thread(target=self._speak)
        speaking.start()
        self._loop.run()
        observe("peer.gone")
        self._is_over.set()
        speaking.join()
        self._pipeline.set_state(Gst.State.NULL)

    def _on_negotiation(self, _: Any) -> None:
        self._rtc.emit("create-offer", None, Gst.Promise.new_with_change_func(self._on_offer))

    def _on_offer(self, promise: Any, *_: Any) -> None:
        promise.wait()
        reply = promise.get_reply()
        offer = reply.get_value("offer")
        self._kept += [promise, reply, offer]
        self._rtc.emit("set-local-description", offer, Gst.Promise.new())

    def _on_gathering(self, *_: Any) -> None:
        if self._rtc.get_property("ice-gathering-state") == GstWebRTC.WebRTCICEGatheringState.COMPLETE:
            GLib.idle_add(self._post)

    def _post(self) -> None:
        sdp = self._rtc.get_property("local-description").sdp.as_text()
        headers = {"Content-Type": "application/sdp", "Authorization": f"Bearer {self._inputs['key']}"}
        url = f"{self._inputs['url']}v1/realtime/calls"
        with urllib.request.urlopen(urllib.request.Request(url, sdp.encode(), headers)) as reply:
            self._call_id = reply.headers["Location"].rpartition("/")[2]
            _, message = GstSdp.SDPMessage.new_from_text(reply.read().decode())
        answer = GstWebRTC.WebRTCSessionDescription.new(GstWebRTC.WebRTCSDPType.ANSWER, message)
        self._rtc.emit("set-remote-description", answer, Gst.Promise.new())

    def _on_open(self) -> None:
        self._connected_at = time.monotonic()
        observe("peer.connected", call_id=self._call_id, version=Gst.version_string())
        threading.Thread(target=self._begin, daemon=True).start()

    def _begin(self) -> None:
        sys.stdin.read()
        GLib.idle_add(self._say_next)

    def _say_next(self) -> None:
        left_s = self._connected_at + self._inputs["turnsAtS"][self._turns] - time.monotonic()
        GLib.timeout_add(max(1, int(1000 * left_s)), self._say)

    def _say(self) -> None:
        sound = Path(self._inputs["pcm"]).read_bytes()
        self._frames.extend(sound[at : at + _FRAME_BYTES] for at in range(0, len(sound), _FRAME_BYTES))

    def _speak(self) -> None:
        began, number = time.monotonic_ns(), 0
        while not self._is_over.wait(max(0.0, (began + number * _FRAME_NS - time.monotonic_ns()) / 1e9)):
            frame = self._frames.popleft() if self._frames else b""
            buffer = Gst.Buffer.new_wrapped(frame.ljust(_FRAME_BYTES, b"\0"))
            buffer.pts, buffer.duration = number * _FRAME_NS, _FRAME_NS
            self._voice.emit("push-buffer", buffer)
            number += 1

    def _on_pad(self, _: Any, pad: Any) -> None:
        sink = Gst.ElementFactory.make("fakesink")
        sink.set_property("signal-handoffs", True)
        sink.set_property("sync", False)
        sink.connect("handoff", self._on_packet)
        self._pipeline.add(sink)
        sink.sync_state_with_parent()
        pad.link(sink.get_static_pad("sink"))

    def _on_packet(self, _: Any, buffer: Any, __: Any) -> None:
        packet = buffer.extract_dup(0, buffer.get_size())
        at = _FIXED_HEADER_BYTES
        if packet[0] & 0x10:
            at += 4 + 4 * int.from_bytes(packet[at + 2 : at + 4], "big")
        self._packets.append((int.from_bytes(packet[4:8], "big"), base64.b64encode(packet[at:]).decode()))

    def _on_event(self, text: str) -> None:
        event = json.loads(text)
        sys.stdout.write(text + "\n")
        sys.stdout.flush()
        if event["type"] != "output_audio_buffer.stopped":
            return
        self._turns += 1
        if self._turns < len(self._inputs["turnsAtS"]):
            self._say_next()
            return
        observe("peer.heard", packets=self._packets, connected_s=time.monotonic() - self._connected_at)
        if self._inputs["hangsUp"]:
            self._channel.emit("close")

    def _on_state(self, *_: Any) -> None:
        state = self._rtc.get_property("connection-state").value_nick
        observe("peer.state", state=state)
        if state in ("closed", "failed", "disconnected"):
            GLib.idle_add(self._loop.quit)


if __name__ == "__main__":
    Gst.init(None)
    Caller(json.loads(sys.argv[2])).run()
