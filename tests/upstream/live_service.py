"""A Live service on a free port: sessions over WebSocket and, by aiortc, over WebRTC; forks; stored recordings."""

import asyncio
import base64
import json
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any

import av
import uvicorn
from aiortc import MediaStreamError, MediaStreamTrack, RTCConfiguration, RTCPeerConnection, RTCSessionDescription
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from tests.end_to_end.real_peer import Microphone
from tests.end_to_end.sound import pcm_of, resample, samples_of
from tests.machine import scaled
from tests.upstream.live_model import LiveModel, Refused, error_object

__all__ = ["LiveService"]

_LIMIT_S = scaled(10.0)
_RATE_HZ = 48_000


class _Server(uvicorn.Server):
    """Leaves signals to the test."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class LiveService:
    """``models`` holds the sessions in the order in which they were started."""

    def __init__(self) -> None:
        self.models: list[LiveModel] = []
        self.keys: list[str | None] = []
        """The ``Authorization`` of each request."""
        self.url = ""
        """Where its sessions are, over WebRTC; with ``ws`` in place of ``http`` over a WebSocket."""
        self._sockets: dict[str, WebSocket] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._peers: list[RTCPeerConnection] = []
        self._news = asyncio.Event()

    @classmethod
    @asynccontextmanager
    async def serving(cls) -> AsyncIterator["LiveService"]:
        """On a free port of loopback."""
        service = cls()
        routes = [
            WebSocketRoute("/v1/live/sessions", service._talk),
            WebSocketRoute("/v1/live/sessions/{parent}/fork", service._talk),
            Route("/v1/live/sessions", service._post, methods=["POST"]),
            Route("/v1/live/sessions/{parent}/fork", service._post, methods=["POST"]),
            Route("/v1/live/sessions/{session_id}/content", service._content),
        ]
        listening = socket.create_server(("127.0.0.1", 0))
        config = uvicorn.Config(
            Starlette(routes=routes),
            log_config=None,
            lifespan="off",
            ws="websockets-sansio",
            timeout_graceful_shutdown=1,
        )
        server = _Server(config)
        service.url = f"http://127.0.0.1:{listening.getsockname()[1]}/v1/live/sessions"
        running = asyncio.create_task(server.serve([listening]))
        try:
            yield service
        finally:
            for peer in service._peers:
                await peer.close()
            for task in service._tasks:
                task.cancel()
            server.should_exit = True
            await running
            listening.close()

    @property
    def socket_url(self) -> str:
        """Where its sessions are, over a WebSocket."""
        return self.url.replace("http", "ws", 1)

    async def model(self, number: int) -> LiveModel:
        """The ``number``-th session, once it is there."""
        async with asyncio.timeout(_LIMIT_S):
            while len(self.models) < number:
                self._news.clear()
                await self._news.wait()
        return self.models[number - 1]

    async def until(self, number: int, kind: str, count: int = 1) -> dict[str, Any]:
        """The ``count``-th client event of this name in the ``number``-th session."""
        model = await self.model(number)
        async with asyncio.timeout(_LIMIT_S):
            while len(found := [event for event in model.events if event["type"] == kind]) < count:
                self._news.clear()
                await self._news.wait()
        return found[count - 1]

    def cut(self, model: LiveModel) -> None:
        """The connection of a session over WebSocket is gone, without a goodbye."""
        self._spawn(self._sockets[model.id].close(1011))

    def _spawn(self, work: Any) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _parent(self, scope: Any) -> LiveModel | None:
        """The session that is forked; raises ``Refused`` if it is not stored."""
        session_id = scope.path_params.get("parent")
        if session_id is None:
            return None
        return self._stored(session_id)

    def _stored(self, session_id: str) -> LiveModel:
        for model in self.models:
            if model.id == session_id and model.session.get("store") is True:
                return model
        raise Refused("session_not_found", f"No stored session {session_id}.", "session_id")

    # WebSocket

    async def _talk(self, ws: WebSocket) -> None:
        self.keys.append(ws.headers.get("authorization"))
        await ws.accept()
        out: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()

        async def write() -> None:
            with suppress(RuntimeError, WebSocketDisconnect):
                while (event := await out.get()) is not None:
                    await ws.send_text(json.dumps(event))

        writing = asyncio.create_task(write())

        def speak(pcm: bytes) -> None:
            out.put_nowait({"type": "session.output_audio.delta", "delta": base64.b64encode(pcm).decode()})

        model: LiveModel | None = None
        try:
            async for text in ws.iter_text():
                event = json.loads(text)
                if model is None:
                    try:
                        model = self._start(ws, event, out.put_nowait, speak)
                    except Refused as error:
                        said = {**error_object(error), "client_event_id": event.get("event_id")}
                        out.put_nowait({"type": "error", "event_id": "event_no", "error": said})
                    continue
                model.take(event)
                self._news.set()
                if model.is_closed:
                    out.put_nowait(None)
                    await writing
                    await ws.close(1000)
                    return
        except (WebSocketDisconnect, RuntimeError):
            pass
        finally:
            writing.cancel()

    def _start(self, ws: WebSocket, event: Any, say: Any, speak: Any) -> LiveModel:
        if event.get("type") != "session.start":
            raise Refused("invalid_event", "The first event is session.start.", "type")
        model = LiveModel(event.get("session"), transport="websocket", say=say, speak=speak, parent=self._parent(ws))
        self._sockets[model.id] = ws
        self._add(model)
        model.start(event)
        return model

    def _add(self, model: LiveModel) -> None:
        self.models.append(model)
        self._news.set()

    # WebRTC

    async def _post(self, request: Request) -> Response:
        self.keys.append(request.headers.get("authorization"))
        body = json.loads(await request.body())
        try:
            answer = await self._answer(body, self._parent(request))
        except Refused as error:
            return JSONResponse({"error": error_object(error)}, 400)
        return JSONResponse(answer, 201)

    async def _answer(self, body: dict[str, Any], parent: LiveModel | None) -> dict[str, Any]:
        if body.get("transport", {}).get("type") != "webrtc":
            raise Refused("invalid_value", "Only the webrtc transport is supported.", "transport.type")
        peer = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        self._peers.append(peer)
        voice, has_said = Microphone(), asyncio.Event()
        channels: list[Any] = []
        waiting: list[dict[str, Any]] = []

        def say(event: dict[str, Any]) -> None:
            if channels:
                channels[0].send(json.dumps(event))
            else:
                waiting.append(event)

        model = LiveModel(
            body.get("session", {} if parent else None),
            transport="webrtc",
            say=say,
            speak=lambda pcm: has_said.set(),
            parent=parent,
        )

        def received(text: str) -> None:
            model.take(json.loads(text))
            self._news.set()

        def opened(channel: Any) -> None:
            channels.append(channel)
            channel.on("message", received)
            for event in waiting:
                channel.send(json.dumps(event))

        peer.on("datachannel", opened)
        peer.on("track", lambda track: self._spawn(_hear(track, model)))
        peer.addTrack(voice)
        await peer.setRemoteDescription(RTCSessionDescription(body["transport"]["sdp"], "offer"))
        await peer.setLocalDescription(await peer.createAnswer())
        self._spawn(_speak(model, voice, has_said))
        self._add(model)
        model.start()
        return {"session": {"id": model.id}, "transport": {"type": "webrtc", "sdp": peer.localDescription.sdp}}

    # Recordings

    async def _content(self, request: Request) -> Response:
        try:
            recording = self._stored(request.path_params["session_id"]).recording
        except Refused as error:
            return JSONResponse({"error": error_object(error)}, 404)
        asked = request.headers.get("range")
        if asked is None:
            return Response(recording, 200, {"Accept-Ranges": "bytes"}, "audio/wav")
        first, _, last = asked.removeprefix("bytes=").partition("-")
        part = recording[int(first) : int(last) + 1]
        span = f"bytes {first}-{int(first) + len(part) - 1}/{len(recording)}"
        return Response(part, 206, {"Content-Range": span, "Accept-Ranges": "bytes"}, "audio/wav")


async def _hear(track: MediaStreamTrack, model: LiveModel) -> None:
    """Until the track ends."""
    with suppress(MediaStreamError):
        while True:
            frame = await track.recv()
            assert isinstance(frame, av.AudioFrame)
            wide = samples_of(frame.to_ndarray()[0, ::2].tobytes())
            model.hear(pcm_of(resample(wide, _RATE_HZ, 24_000)))


async def _speak(model: LiveModel, voice: Microphone, has_said: asyncio.Event) -> None:
    """Says on the track what the model says, silence included."""
    at = 0
    while not model.is_closed:
        piece = bytes(model.said[at : at + 4800])
        if len(piece) < 4800:
            has_said.clear()
            await has_said.wait()
            continue
        at += len(piece)
        await voice.speak(piece)
