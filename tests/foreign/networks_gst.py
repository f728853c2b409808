"""Callers on GStreamer's webrtcbin in all kinds of networks, run by the system's Python: ``python3 networks_gst.py``.

Each line of the input is a command, each line of the output what came of it; the commands are those of networks.mjs.
"""

import json
import os
import sys
import threading
import time
import urllib.parse
import urllib.request
from typing import Any

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstSdp", "1.0")
gi.require_version("GstWebRTC", "1.0")
from gi.repository import GLib, Gst, GstSdp, GstWebRTC  # noqa: E402

_LIMIT_S = 20 * float(os.environ.get("TEST_SLOWNESS", "2"))
_PIPELINE = (
    "webrtcbin name=rtc bundle-policy=max-bundle "
    "audiotestsrc is-live=true ! audio/x-raw,rate=48000,channels=1 ! opusenc ! rtpopuspay pt=96 "
    "! application/x-rtp,media=audio,encoding-name=OPUS,payload=96 ! rtc."
)


def observe(kind: str, **fields: Any) -> None:
    """Prints one observation."""
    sys.stdout.write(json.dumps({"type": kind, **fields}) + "\n")
    sys.stdout.flush()


def _turn_url(url: str, key: str, relay: dict[str, str]) -> str:
    """The relay as webrtcbin takes it: user and password in the URL."""
    request = urllib.request.Request(f"{url}v1/realtime/ice_servers", headers={"Authorization": f"Bearer {key}"})
    with urllib.request.urlopen(request) as reply:
        (server,) = json.load(reply)["iceServers"]
    [wanted] = [one for one in server["urls"] if one.startswith(relay["scheme"] + ":") and relay["transport"] in one]
    if "at" in relay:
        wanted = f"{relay['scheme']}:{relay['at']}?transport={relay['transport']}"
    user, password = (urllib.parse.quote(server[name], safe="") for name in ("username", "credential"))
    scheme, _, rest = wanted.partition(":")
    return f"{scheme}://{user}:{password}@{rest}"


class Call:
    """One call."""

    def __init__(
        self, url: str, key: str, relay: dict[str, str] | None, *, path: str = "calls", resume_key: str = ""
    ) -> None:
        self.packets = 0
        self.resume_key = resume_key
        self._url, self._key, self._path = url, key, path
        self._kept: list[Any] = []  # a reply owns what is in it
        self._first: dict[str, Any] = {}
        self._has_first, self._is_gathered, self._has_failed = (threading.Event() for _ in range(3))
        self._pipeline = Gst.parse_launch(_PIPELINE)
        self._rtc = self._pipeline.get_by_name("rtc")
        if relay is not None:
            self._rtc.set_property("turn-server", _turn_url(url, key, relay))
            self._rtc.set_property("ice-transport-policy", GstWebRTC.WebRTCICETransportPolicy.RELAY)

    def connect(self, limit_s: float = _LIMIT_S) -> dict[str, Any]:
        """Returns when the first event has come."""
        began = time.monotonic()
        self._rtc.connect("pad-added", self._on_pad)
        self._rtc.connect("notify::ice-gathering-state", self._on_gathering)
        self._pipeline.set_state(Gst.State.READY)
        channel = self._rtc.emit("create-data-channel", "oai-events", None)
        channel.connect("on-message-string", self._on_event)
        self._kept.append(channel)
        self._rtc.connect("on-negotiation-needed", self._on_negotiation)
        self._pipeline.set_state(Gst.State.PLAYING)
        if not self._is_gathered.wait(limit_s):
            raise TimeoutError("not gathered")
        call_id = self._post()
        if not self._has_first.wait(limit_s):
            raise TimeoutError(f"not connected: {self._rtc.get_property('ice-connection-state').value_nick}")
        took_ms = round(1000 * (time.monotonic() - began))
        return {"call_id": call_id, "first": self._first["type"], "ms": took_ms}

    def close(self) -> None:
        """Hangs up."""
        self._pipeline.set_state(Gst.State.NULL)

    def ufrag(self, *, restart: bool = False) -> str:
        """The ICE user fragment of the present offer, or of a new one that asks for an ICE restart."""
        sdp = self._rtc.get_property("local-description").sdp
        if restart:
            promise = Gst.Promise.new()
            options = Gst.Structure.new_from_string("options, ice-restart=(boolean)true, iceRestart=(boolean)true")
            self._rtc.emit("create-offer", options, promise)
            promise.wait()
            reply = promise.get_reply()
            offer = reply.get_value("offer")
            self._kept += [promise, reply, offer, options]
            sdp = offer.sdp
        [found, *_] = [line for line in sdp.as_text().splitlines() if line.startswith("a=ice-ufrag:")]
        return str(found)

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
            self._is_gathered.set()

    def _post(self) -> str:
        sdp = self._rtc.get_property("local-description").sdp.as_text()
        headers = {"Content-Type": "application/sdp", "Authorization": f"Bearer {self._key}"}
        if self.resume_key:
            headers["Bridge-Resume-Key"] = self.resume_key
        request = urllib.request.Request(f"{self._url}v1/realtime/{self._path}", sdp.encode(), headers)
        with urllib.request.urlopen(request) as reply:
            call_id: str = reply.headers["Location"].rpartition("/")[2]
            self.resume_key = reply.headers["Bridge-Resume-Key"]
            _, message = GstSdp.SDPMessage.new_from_text(reply.read().decode())
        answer = GstWebRTC.WebRTCSessionDescription.new(GstWebRTC.WebRTCSDPType.ANSWER, message)
        self._rtc.emit("set-remote-description", answer, Gst.Promise.new())
        return call_id

    def _on_event(self, _: Any, text: str) -> None:
        if not self._first:
            self._first = json.loads(text)
            self._has_first.set()

    def _on_pad(self, _: Any, pad: Any) -> None:
        sink = Gst.ElementFactory.make("fakesink")
        sink.set_property("signal-handoffs", True)
        sink.set_property("sync", False)
        sink.connect("handoff", self._on_packet)
        self._pipeline.add(sink)
        sink.sync_state_with_parent()
        pad.link(sink.get_static_pad("sink"))

    def _on_packet(self, *_: Any) -> None:
        self.packets += 1


class Caller:
    """Does what the input says."""

    def __init__(self) -> None:
        self._call: Call | None = None

    def run(self, command: dict[str, Any]) -> dict[str, Any]:
        """One command."""
        if command["do"] == "connect":
            self._call = Call(command["url"], command["key"], command.get("relay"))
            return self._call.connect(command.get("limit_s", _LIMIT_S))
        assert self._call is not None
        if command["do"] == "ufrags":
            return {"before": self._call.ufrag(), "after": self._call.ufrag(restart=True)}
        if command["do"] == "restart":  # another peer takes the place of this one
            before, path = self._call, f"calls/{command['call_id']}"
            self._call = Call(command["url"], command["key"], None, path=path, resume_key=before.resume_key)
            done = self._call.connect()
            before.close()
            return done
        if command["do"] == "heard":
            return {"packets": self._call.packets}
        self._call.close()
        return {}


def main() -> None:
    """Until the input ends."""
    Gst.init(None)
    loop = GLib.MainLoop()
    threading.Thread(target=loop.run, daemon=True).start()
    caller = Caller()
    observe("peer.ready", version=Gst.version_string())
    for line in sys.stdin:
        command = json.loads(line)
        done = {"kind": f"done.{command['do']}", "number": command["number"]}
        try:
            observe(**done, **caller.run(command))
        except Exception as error:
            observe(**done, failed=repr(error))
    loop.quit()


if __name__ == "__main__":
    main()
