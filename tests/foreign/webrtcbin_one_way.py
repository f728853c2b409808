"""GStreamer's webrtcbin publishes by WHIP and plays by WHEP, run by the system's Python: ``… call INPUTS``.

From its first moment it sends sound, silence mostly; it speaks when its player is connected too. When its standard
input has ended it prints what the player has heard and ends both sessions.
"""

import base64
import json
import sys
import threading
import time
import urllib.request
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstSdp", "1.0")
gi.require_version("GstWebRTC", "1.0")
from gi.repository import GLib, Gst, GstSdp, GstWebRTC  # noqa: E402

_FRAME_NS = 20_000_000
_FRAME_BYTES = 2 * 960
_FIXED_HEADER_BYTES = 12
_OPUS = "application/x-rtp,media=audio,encoding-name=OPUS,payload=96,clock-rate=48000"
_PUBLISHER = (
    "webrtcbin name=rtc bundle-policy=max-bundle "
    "appsrc name=voice is-live=true format=time caps=audio/x-raw,format=S16LE,rate=48000,channels=1,layout=interleaved "
    f"! opusenc ! rtpopuspay pt=96 ! {_OPUS} ! rtc."
)
_PLAYER = "webrtcbin name=rtc bundle-policy=max-bundle"


def observe(kind: str, **fields: Any) -> None:
    """Prints one observation, whole, whichever thread it is in."""
    sys.stdout.write(json.dumps({"type": kind, **fields}) + "\n")
    sys.stdout.flush()


class Session:
    """One side: a pipeline whose offer is posted to ``path``; ``on_connected`` is called once."""

    def __init__(
        self, inputs: dict[str, Any], pipeline: str, direction: Any, path: str, on_connected: Callable[[], None]
    ) -> None:
        self.location = ""
        self._has_offered = False
        self._inputs = inputs
        self._path = path
        self._on_connected = on_connected
        self._kept: list[Any] = []  # a reply owns what is in it
        self.pipeline = Gst.Pipeline.new(None)
        self.pipeline.add(Gst.parse_bin_from_description(pipeline, False))
        self.rtc = self.pipeline.get_by_name("rtc")
        self.rtc.connect("notify::ice-gathering-state", self._on_gathering)
        self.rtc.connect("notify::connection-state", self._on_state)
        self.pipeline.set_state(Gst.State.READY)
        self.rtc.connect("on-negotiation-needed", self._on_negotiation)
        if direction == GstWebRTC.WebRTCRTPTransceiverDirection.RECVONLY:
            self.rtc.emit("add-transceiver", direction, Gst.Caps.from_string(_OPUS))
        else:
            self.rtc.emit("get-transceiver", 0).set_property("direction", direction)

    def start(self) -> None:
        """Begins."""
        self.pipeline.set_state(Gst.State.PLAYING)

    def end(self) -> int:
        """Ends the session by ``DELETE``; the status."""
        with urllib.request.urlopen(self._request(self.location, "DELETE", None)) as reply:
            return int(reply.status)

    def _on_negotiation(self, _: Any) -> None:
        if self._has_offered:
            return
        self._has_offered = True
        self.rtc.emit("create-offer", None, Gst.Promise.new_with_change_func(self._on_offer))

    def _on_offer(self, promise: Any, *_: Any) -> None:
        promise.wait()
        reply = promise.get_reply()
        offer = reply.get_value("offer")
        self._kept += [promise, reply, offer]
        self.rtc.emit("set-local-description", offer, Gst.Promise.new())

    def _on_gathering(self, *_: Any) -> None:
        if self.rtc.get_property("ice-gathering-state") == GstWebRTC.WebRTCICEGatheringState.COMPLETE:
            GLib.idle_add(self._post)

    def _post(self) -> None:
        sdp = self.rtc.get_property("local-description").sdp.as_text()
        url = urljoin(self._inputs["url"], self._path)
        with urllib.request.urlopen(self._request(url, "POST", sdp.encode())) as reply:
            self.location = urljoin(url, reply.headers["Location"])
            _, message = GstSdp.SDPMessage.new_from_text(reply.read().decode())
        answer = GstWebRTC.WebRTCSessionDescription.new(GstWebRTC.WebRTCSDPType.ANSWER, message)
        self.rtc.emit("set-remote-description", answer, Gst.Promise.new())

    def _request(self, url: str, method: str, body: bytes | None) -> urllib.request.Request:
        headers = {"Content-Type": "application/sdp", "Authorization": f"Bearer {self._inputs['key']}"}
        return urllib.request.Request(url, body, headers, method=method)

    def _on_state(self, *_: Any) -> None:
        state = self.rtc.get_property("connection-state").value_nick
        if state == "connected":
            GLib.idle_add(self._on_connected)


class Caller:
    """A publisher, and a player of what it is answered."""

    def __init__(self, inputs: dict[str, Any]) -> None:
        self._inputs = inputs
        self._loop = GLib.MainLoop()
        self._frames: deque[bytes] = deque()
        self._packets: list[tuple[int, str]] = []
        self._is_over = threading.Event()
        directions = GstWebRTC.WebRTCRTPTransceiverDirection
        self._publisher = Session(inputs, _PUBLISHER, directions.SENDONLY, "v1/whip", self._play)
        self._player: Session | None = None

    def run(self) -> None:
        """Until both sessions have ended."""
        self._publisher.start()
        speaking = threading.Thread(target=self._speak)
        speaking.start()
        self._loop.run()
        self._is_over.set()
        speaking.join()
        for session in (self._publisher, self._player):
            if session is not None:
                session.pipeline.set_state(Gst.State.NULL)

    def _play(self) -> None:
        self._call_id = self._publisher.location.rpartition("/")[2]
        path = f"v1/whep/{self._call_id}?tracks=output"
        direction = GstWebRTC.WebRTCRTPTransceiverDirection.RECVONLY
        self._player = Session(self._inputs, _PLAYER, direction, path, self._begin)
        self._player.rtc.connect("pad-added", self._on_pad)
        self._player.start()

    def _begin(self) -> None:
        observe("peer.connected", call_id=self._call_id, version=Gst.version_string())
        sound = Path(self._inputs["pcm"]).read_bytes()
        self._frames.extend(sound[at : at + _FRAME_BYTES] for at in range(0, len(sound), _FRAME_BYTES))
        threading.Thread(target=self._end, daemon=True).start()

    def _end(self) -> None:
        sys.stdin.read()
        observe("peer.heard", packets=self._packets)
        assert self._player is not None
        observe("peer.gone", statuses=[self._player.end(), self._publisher.end()])
        GLib.idle_add(self._loop.quit)

    def _speak(self) -> None:
        voice = self._publisher.pipeline.get_by_name("voice")
        began, number = time.monotonic_ns(), 0
        while not self._is_over.wait(max(0.0, (began + number * _FRAME_NS - time.monotonic_ns()) / 1e9)):
            frame = self._frames.popleft() if self._frames else b""
            buffer = Gst.Buffer.new_wrapped(frame.ljust(_FRAME_BYTES, b"\0"))
            buffer.pts, buffer.duration = number * _FRAME_NS, _FRAME_NS
            voice.emit("push-buffer", buffer)
            number += 1

    def _on_pad(self, _: Any, pad: Any) -> None:
        sink = Gst.ElementFactory.make("fakesink")
        sink.set_property("signal-handoffs", True)
        sink.set_property("sync", False)
        sink.connect("handoff", self._on_packet)
        assert self._player is not None
        self._player.rtc.get_parent().add(sink)
        sink.sync_state_with_parent()
        pad.link(sink.get_static_pad("sink"))

    def _on_packet(self, _: Any, buffer: Any, __: Any) -> None:
        packet = buffer.extract_dup(0, buffer.get_size())
        at = _FIXED_HEADER_BYTES
        if packet[0] & 0x10:
            at += 4 + 4 * int.from_bytes(packet[at + 2 : at + 4], "big")
        self._packets.append((int.from_bytes(packet[4:8], "big"), base64.b64encode(packet[at:]).decode()))


if __name__ == "__main__":
    Gst.init(None)
    Caller(json.loads(sys.argv[2])).run()
