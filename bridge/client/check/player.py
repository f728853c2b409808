"""Plays the steps of one row, and says in words what was wrong."""

import asyncio
import json
import re
import secrets
from base64 import b64encode
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from typing import Any

from bridge.client.address import CallFailed
from bridge.client.check import beta
from bridge.client.check.link import Link, open_link, open_socket_link
from bridge.client.check.sdp import answer_flaws, new_offer
from bridge.client.check.steps import (
    AnswerFits,
    Append,
    Attach,
    Closed,
    Connect,
    EndCall,
    Expect,
    Hear,
    Never,
    Order,
    Ping,
    PostOffer,
    Refused,
    Request,
    Row,
    Send,
    SendRaw,
    Speak,
    Step,
)
from bridge.client.check.target import CheckTarget, HttpReply
from bridge.client.check.values import ID, TEXT, at, mismatch, resolved, shortened
from bridge.media.convert import SoundEncoder
from bridge.wire.audio import G711_ALAW, G711_ULAW

__all__ = ["SessionOpenings", "Mismatch", "NotSupported", "Player"]

_OPEN_WITHIN_S = 20.0
_NO_GREETING_WITHIN_S = 2.0  # once it has not come in a session
_ENOUGH_TRIES = 3
_ERROR_WITHIN_S = 5.0
_CLOSES_WITHIN_S = 5.0
_REASON_WITHIN_S = 2.0
_AFTER_AN_ERROR_S = 0.3  # the event that was asked for may still come
_AFTER_THE_LAST_S = 2.0
"""How long to wait for another event, if the one that came is not as it should be."""
_ABSENT_STATUSES = (403, 404, 405, 501)
"""The statuses by which a server says that it does not do, or does not allow, what an optional row asks for."""
_FULL_STATUSES = (429, 503)
_FULL_WORDS = ("limit", "capacity", "too_many", "busy", "full")
_TRY_AGAIN_LATER = 1013  # a close code (IANA's registry for RFC 6455)
_FULL_WAITS_S = (1.0, 2.0, 4.0, 8.0)
_FORM = "checkboundary"
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


class Mismatch(Exception):
    """Says that what came is not what should have come. The message is one sentence for a person."""


class NotSupported(Exception):
    """Says that the server does not do this."""


class SessionOpenings:
    """What the rows have learned together about opening sessions, so that one fault of a server costs its time once."""

    def __init__(self) -> None:
        self.greets = True
        """Whether ``session.created`` has come in all sessions so far."""
        self._has_opened = False
        self._failures = 0

    @property
    def never_opens(self) -> bool:
        """Whether no session was ever opened, in as many tries as are enough to believe it."""
        return not self._has_opened and self._failures >= _ENOUGH_TRIES

    @property
    def greeting_within_s(self) -> float:
        """How long to wait for ``session.created``."""
        return _OPEN_WITHIN_S if self.greets else _NO_GREETING_WITHIN_S

    def count_success(self) -> None:
        """Notes that a session was opened."""
        self._has_opened = True

    def count_failure(self) -> None:
        """Notes that a session was not opened."""
        self._failures += 1


class Player:
    """Plays one row on one server. ``sent`` and ``links`` have afterwards what went over the line."""

    def __init__(self, target: CheckTarget, row: Row, phrase: bytes, openings: SessionOpenings | None = None) -> None:
        """``openings`` is shared by all rows that are played on this server."""
        self.sent: list[str] = []
        self.links: list[Link] = []
        self.paused_ms = 0
        """The pauses in what was spoken that are this machine's doing, because the process stood still."""
        self._target = target
        self._row = row
        self._phrase = phrase
        self._openings = openings or SessionOpenings()
        self._kept: dict[str, Any] = {"model": target.address.model}
        self._mark = 0
        """The number of events that came before the last event was sent."""
        self._last_id = ""
        self._tasks = asyncio.TaskGroup()
        self._stack = AsyncExitStack()
        self._answer = ""

    async def play(self) -> None:
        """Plays all steps; raises ``Mismatch``, ``NotSupported``, or ``CallFailed`` if no connection could be made."""
        try:
            async with self._tasks, self._stack:
                await self._play()
        except BaseExceptionGroup as group:
            raise group.exceptions[0] from None

    async def _play(self) -> None:
        if self._row.opens:
            await self._open()
        for step in self._row.steps:
            await self._take(step)
        strays = [stray for link in self.links for stray in link.strays]
        if strays:
            raise Mismatch(strays[0])

    async def _open(self) -> None:
        """Opens the row's session. If the server is known to send no ``session.created``, the row goes on without it.

        A server that has no place now is asked again: it may still be clearing up behind the row before.
        """
        for wait_s in (*_FULL_WAITS_S, None):
            try:
                await self._open_once()
            except (CallFailed, Mismatch, TimeoutError) as failure:
                if wait_s is None or not self._is_full(failure):
                    raise
                self.links.clear()
                await asyncio.sleep(wait_s)
            else:
                return

    async def _open_once(self) -> None:
        openings = self._openings
        try:
            async with asyncio.timeout(_OPEN_WITHIN_S):
                self.links.append(await self._stack.enter_async_context(open_link(self._target, self._tasks)))
        except (CallFailed, TimeoutError):
            openings.count_failure()
            raise
        limit_s, is_new = openings.greeting_within_s, openings.greets
        greeting = "session.created"
        if self._target.is_live:
            greeting = "session.started"
            await self._send({"type": "session.start", "session": {"model": "$model"}})
        try:
            await self._until(lambda: self._came(greeting), limit_s, f"{greeting} did not come")
        except Mismatch:
            if self._link.strays or self._link.close_code is not None:
                raise
            openings.greets = False
            if is_new:
                raise
        openings.count_success()
        if self._target.is_live:
            self._keep_session()

    def _keep_session(self) -> None:
        started = next((event for event in self._link.events if event["type"] == "session.started"), {})
        self._kept["session"] = at(started, "session.id")

    def _is_full(self, failure: Exception) -> bool:
        """Returns whether the server refused the session because it has no place for it now."""
        if isinstance(failure, CallFailed):
            return failure.status in _FULL_STATUSES
        if not self.links:
            return False
        link = self._link
        errors = [event["error"] for event in link.events if isinstance(event.get("error"), dict)]
        words = " ".join(f"{error.get('type')} {error.get('code')}" for error in errors)
        is_said = any(word in words for word in _FULL_WORDS)
        return link.close_code == _TRY_AGAIN_LATER or (link.close_code is not None and is_said)

    async def _take(self, step: Step) -> None:
        match step:
            case Send():
                await self._send(step.event)
            case SendRaw(message=message):
                self._last_id = ""
                await self._put(message, shown=f"{message[:100]!r}")
            case Expect():
                await self._expect(step)
            case Refused():
                await self._refused(step)
            case Order(kinds=kinds):
                self._order(kinds)
            case Never():
                await self._never(step)
            case Speak():
                await self._speak(step)
            case Append():
                await self._append(step)
            case Hear():
                words = f"only {round(self._link.heard_ms)} ms of sound came, wanted: {step.milliseconds} ms"
                await self._until(lambda: self._link.heard_ms >= step.milliseconds, step.within_s, words)
            case Closed():
                await self._until(
                    lambda: self._link.close_code is not None, step.within_s, "the connection stayed open"
                )
                if self._link.close_code not in step.codes:
                    raise Mismatch(f"closed with {self._link.close_code}; wanted: {' or '.join(map(str, step.codes))}")
            case Ping():
                try:
                    async with asyncio.timeout(step.within_s):
                        await self._link.ping()
                except TimeoutError:
                    raise Mismatch("the ping was not answered") from None
            case Request():
                await self._request(step)
            case PostOffer():
                await self._offer(step)
            case AnswerFits():
                if found := answer_flaws(self._answer):
                    raise Mismatch(found[0])
            case Connect():
                await self._connect(step)
            case Attach():
                await self._attach()
            case EndCall():
                await self._hang_up()

    @property
    def _naming(self) -> str:
        """The field of an error that names the event which it answers."""
        return "client_event_id" if self._target.is_live else "event_id"

    @property
    def _link(self) -> Link:
        if not self.links:
            raise Mismatch("there is no connection")
        return self.links[0]

    # Events

    async def _send(self, event: dict[str, Any]) -> None:
        event = resolved(event, self._kept)
        if self._target.is_beta:
            event = beta.client_event(event)
        self._last_id = f"event_check_{secrets.token_hex(6)}"
        self._kept["last_id"] = self._last_id
        event = {"event_id": self._last_id, **event}
        await self._put(json.dumps(event), shown=shortened(event, 400))

    async def _put(self, message: str | bytes, *, shown: str) -> None:
        self._mark = len(self._link.events)
        self.sent.append(shown)
        await self._link.send_message(message)

    def _named(self, kind: str) -> str:
        return beta.kind(kind) if self._target.is_beta else kind

    def _came(self, kind: str, link: Link | None = None) -> bool:
        return any(event["type"] == self._named(kind) for event in (link or self._link).events)

    async def _expect(self, step: Expect) -> None:
        kind = self._named(step.kind)
        kinds = (kind, self._named(step.or_kind))
        wanted = resolved(dict(step.fields), self._kept)
        if self._target.is_beta:
            wanted = beta.fields(wanted)
        link = self.links[1] if step.on == "side" and len(self.links) > 1 else self._link
        is_first = kind in ("session.created", "session.started")
        flaw = ""

        def found() -> dict[str, Any] | None:
            nonlocal flaw
            for event in link.events[0 if is_first or step.on == "side" else self._mark :]:
                if event["type"] in kinds:
                    flaws = [words for path, value in wanted.items() if (words := mismatch(event, path, value))]
                    if not flaws:
                        return event
                    flaw = f"{kind}: {flaws[0]}"
            return None

        refused = asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout(step.within_s):
                while (event := found()) is None:
                    error = None if kind == "error" else self._error()
                    if error is None:
                        refused = asyncio.get_running_loop().time()
                    elif asyncio.get_running_loop().time() - refused > _AFTER_AN_ERROR_S:
                        self._give_up(kind, error)
                    if flaw and link.quiet_s > _AFTER_THE_LAST_S:
                        raise Mismatch(flaw)
                    if step.unless and self._came(step.unless, link):
                        raise NotSupported(f"{step.unless} came instead of {kind}")
                    await link.changes.until(_once())
                    if link.close_code is not None and found() is None:
                        raise Mismatch(flaw or f"the connection was closed ({link.close_code}) instead of {kind}")
        except TimeoutError:
            raise Mismatch(flaw or f"{kind} did not come within {step.within_s:g} s; {self._listing(link)}") from None
        for name, path in step.keep.items():
            self._kept[name] = at(event, path)

    def _error(self) -> dict[str, Any] | None:
        """Returns the error that answers the last event, if one has come."""
        for event in self._link.events[self._mark :]:
            if event["type"] == "error" and isinstance(event.get("error"), dict):
                named = event["error"].get(self._naming)
                if named is None or named == self._last_id:
                    error: dict[str, Any] = event["error"]
                    return error
        return None

    def _give_up(self, kind: str, error: dict[str, Any]) -> None:
        words = f"an error came instead of {kind}: {error.get('code') or error.get('type')}: {error.get('message')}"
        if self._row.is_optional:
            raise NotSupported(words)
        raise Mismatch(words)

    async def _refused(self, step: Refused) -> None:
        await self._until(
            lambda: any(event["type"] == "error" for event in self._link.events[self._mark :]),
            _ERROR_WITHIN_S,
            "no error came",
        )
        errors = [event.get("error") for event in self._link.events[self._mark :] if event["type"] == "error"]
        error = next((each for each in errors if isinstance(each, dict)), None)
        if error is None:
            raise Mismatch("the error event contains no error object")
        named = error.get(self._naming)
        if step.names_event and named != self._last_id:
            raise Mismatch(f"error.{self._naming} is {shortened(named)}; wanted: that of the event refused")
        if step.codes and error.get("code") not in step.codes:
            raise Mismatch(f"error.code is {shortened(error.get('code'))}; wanted: {' or '.join(step.codes)}")
        if step.param is not None and error.get("param") != step.param:
            raise Mismatch(f"error.param is {shortened(error.get('param'))}; wanted: {step.param}")
        if self._link.close_code is not None:
            raise Mismatch(f"the connection was closed ({self._link.close_code}) after the error")

    def _order(self, kinds: tuple[str, ...]) -> None:
        came = [event["type"] for event in self._link.events]
        names = [self._named(kind) for kind in kinds]
        missing = [name for name in names if name not in came]
        if missing:
            raise Mismatch(f"{missing[0]} did not come; {self._listing(self._link)}")
        places = [came.index(name) for name in names]
        for before, behind, place, next_place in zip(names, names[1:], places, places[1:], strict=False):
            if next_place < place:
                raise Mismatch(f"{behind} came before {before}")

    async def _never(self, step: Never) -> None:
        kind = self._named(step.kind)
        before = sum(event["type"] == kind for event in self._link.events[: self._mark])
        with suppress(TimeoutError):
            async with asyncio.timeout(step.seconds):
                await self._link.changes.until(lambda: sum(e["type"] == kind for e in self._link.events) > before)
        if sum(event["type"] == kind for event in self._link.events) > before:
            raise Mismatch(f"{kind} came, and should not")

    async def _until(self, holds: Callable[[], bool], within_s: float, words: str) -> None:
        link = self._link
        try:
            async with asyncio.timeout(within_s):
                await link.changes.until(lambda: holds() or bool(link.strays) or link.close_code is not None)
            if link.strays:
                raise Mismatch(link.strays[0])
            if not holds():
                raise Mismatch(f"{words}: the connection was closed ({link.close_code}); {self._listing(link)}")
        except TimeoutError:
            raise Mismatch(f"{words} within {within_s:g} s; {self._listing(link)}") from None

    def _listing(self, link: Link) -> str:
        kinds = list(dict.fromkeys(event["type"] for event in link.events[self._mark :]))
        return f"what came: {', '.join(kinds) or 'nothing'}"

    # Sound

    async def _speak(self, step: Speak) -> None:
        if not step.since_sent:
            self._mark = len(self._link.events)
        self.sent.append("the phrase, spoken in real time")
        kind, link = self._named(step.until), self._link
        stood_still_ms = link.stood_still_ms
        speaking = self._tasks.create_task(link.play_caller_audio(self._phrase))
        try:
            await self._until(
                lambda: any(event["type"] == kind for event in link.events[self._mark :]),
                step.within_s,
                f"{kind} did not come",
            )
            words = f"less than {step.heard_ms} ms of sound came"
            await self._until(lambda: link.heard_ms >= step.heard_ms, step.within_s, words)
        finally:
            speaking.cancel()
            self.paused_ms += link.stood_still_ms - stood_still_ms

    async def _append(self, step: Append) -> None:
        pcm = self._phrase[: step.milliseconds * 48]
        if step.codec == "audio/pcm":
            sound = pcm
        else:
            encoder = SoundEncoder(G711_ULAW if step.codec == "audio/pcmu" else G711_ALAW)
            sound = encoder.push(pcm) + encoder.flush()
        self.sent.append(f"{step.milliseconds} ms of the phrase as {step.codec}")
        for start in range(0, len(sound), 4800):
            audio = b64encode(sound[start : start + 4800]).decode()
            await self._link.send_message(json.dumps({"type": "input_audio_buffer.append", "audio": audio}))

    # HTTP and connections

    async def _request(self, step: Request) -> None:
        path = resolved_path(step.path, self._kept)
        body = step.body if step.json is None else json.dumps(resolved(step.json, self._kept)).encode()
        headers = {**({"Content-Type": "application/json"} if step.json is not None else {}), **step.headers}
        self.sent.append(f"{step.method} {path} {shortened(step.json, 300) if step.json else ''}".strip())
        key = None if step.key is None else str(resolved(step.key, self._kept))
        url = self._target.http_url(path)
        reply = await self._target.request(step.method, url, body=body, headers=headers, key=key)
        self._judge(reply, step.statuses, resolved(dict(step.fields), self._kept))
        for name, part in step.has_headers.items():
            if part not in reply.headers.get(name.lower(), "").lower():
                self._fail(f"the header {name} is {shortened(reply.headers.get(name.lower()))}; wanted in it: {part}")
        for name, path in step.keep.items():
            self._kept[name] = at(reply.json, path)
        for name, header in step.keep_header.items():
            self._kept[name] = reply.headers.get(header.lower(), "")

    def _judge(self, reply: HttpReply, statuses: tuple[int, ...], fields: dict[str, Any]) -> None:
        if reply.status not in statuses:
            said = shortened(reply.body[:200].decode("utf-8", "replace"), 200)
            words = f"HTTP {reply.status}; wanted: {' or '.join(map(str, statuses))}; it says {said}"
            if self._row.is_optional and reply.status in _ABSENT_STATUSES:
                raise NotSupported(words)
            raise Mismatch(words)
        for path, wanted in fields.items():
            if words := mismatch(reply.json, path, wanted):
                raise Mismatch(words)

    def _fail(self, words: str) -> None:
        if self._row.is_optional:
            raise NotSupported(words)
        raise Mismatch(words)

    async def _offer(self, step: PostOffer) -> None:
        sdp = new_offer()
        headers, body = {"Content-Type": "application/sdp"}, sdp.encode()
        if step.as_form:
            headers = {"Content-Type": f"multipart/form-data; boundary={_FORM}"}
            session = json.dumps({"type": "realtime", "model": self._target.address.model})
            body = _form({"sdp": ("application/sdp", sdp), "session": ("application/json", session)})
        self.sent.append("POST /realtime/calls, an offer like Chromium's" + (", in a form" if step.as_form else ""))
        url = self._target.address.calls
        if self._target.is_live:
            await self._live_offer(sdp)
            return
        reply = await self._target.request("POST", url, body=body, headers=headers)
        self._judge(reply, (201,), {})
        if not reply.headers.get("content-type", "").startswith("application/sdp"):
            raise Mismatch(f"Content-Type is {shortened(reply.headers.get('content-type'))}; wanted: application/sdp")
        location = reply.headers.get("location", "")
        call_id = location.rstrip("/").rpartition("/")[2]
        if not call_id:
            raise Mismatch("there is no Location header with which to find the call")
        self._answer = reply.body.decode("utf-8", "replace")
        self._stack.push_async_callback(self._drop, call_id)

    async def _live_offer(self, sdp: str) -> None:
        """Posts the offer of a Live session, which is JSON both ways, with the id in the body."""
        session = {"session": {"model": self._target.address.model}, "transport": {"type": "webrtc", "sdp": sdp}}
        url = self._target.http_url("/live/sessions")
        headers = {"Content-Type": "application/json"}
        reply = await self._target.request("POST", url, body=json.dumps(session).encode(), headers=headers)
        self._judge(reply, (201,), {"session.id": ID, "transport.type": "webrtc", "transport.sdp": TEXT})
        self._answer = str(at(reply.json, "transport.sdp"))
        self._stack.push_async_callback(self._drop, str(at(reply.json, "session.id")))

    async def _drop(self, call_id: str) -> None:
        """Ends a call to which nobody will come."""
        path = "/live/sessions" if self._target.is_live else "/realtime/calls"
        with suppress(CallFailed):
            await self._target.request("POST", self._target.http_url(f"{path}/{call_id}/hangup"))

    async def _connect(self, step: Connect) -> None:
        key = None if step.key is None else str(resolved(step.key, self._kept))
        subprotocols = step.subprotocols
        if step.as_subprotocol and key:
            if not _TOKEN.fullmatch(key):
                raise Mismatch(
                    "the short-lived key has characters that are not allowed in a subprotocol (RFC 7230 section 3.2.6)"
                )
            subprotocols = (*subprotocols, f"openai-insecure-api-key.{key}")
        self.sent.append(f"WebSocket {step.path}{shortened(dict(step.query)) if step.query else ''}".strip())
        url = self._target.socket_url(step.query, resolved_path(step.path, self._kept))
        try:
            link = await self._stack.enter_async_context(
                open_socket_link(self._target, self._tasks, url, key=key, subprotocols=subprotocols)
            )
        except CallFailed as failure:
            if failure.status == step.status:
                code = step.fields.get("error.code")
                if code is not None and failure.code != code:
                    raise Mismatch(f"error.code is {shortened(failure.code)}; wanted: {code}") from None
                return
            words = f"the WebSocket was refused: {failure.message}; wanted: HTTP {step.status}"
            if self._row.is_optional and failure.status in _ABSENT_STATUSES:
                raise NotSupported(words) from None
            raise Mismatch(words) from None
        self.links.append(link)
        if step.status != 101:
            with suppress(Mismatch):  # it may still say why, which the report shows
                await self._until(lambda: self._came("error"), _REASON_WITHIN_S, "no reason came")
            raise Mismatch(f"the WebSocket was opened first; wanted: HTTP {step.status}")
        if step.subprotocols and link.subprotocol != step.subprotocols[0]:
            raise Mismatch(f"the subprotocol is {shortened(link.subprotocol)}; wanted: {step.subprotocols[0]}")

    async def _attach(self) -> None:
        if self._target.is_live:
            url = self._target.socket_url(None, resolved_path("/live/sessions/$session/attach", self._kept))
            self.sent.append("a second WebSocket to …/attach")
        elif call_id := self._link.call_id:
            url = self._target.socket_url({"call_id": call_id})
            self.sent.append("a second WebSocket with call_id")
        else:
            raise NotSupported("the server named no call in Location, so nobody can attach to it")
        try:
            side = await self._stack.enter_async_context(open_socket_link(self._target, self._tasks, url))
        except CallFailed as failure:
            raise NotSupported(f"attaching was refused: {failure.message}") from None
        self.links.append(side)

    async def _hang_up(self) -> None:
        call_id = self._link.call_id
        if not call_id:
            raise Mismatch("the server named no call in Location, so it cannot be hung up")
        path = f"/realtime/calls/{call_id}/hangup"
        self.sent.append(f"POST {path}")
        reply = await self._target.request("POST", self._target.http_url(path))
        self._judge(reply, (200,), {})
        await self._until(lambda: self._link.close_code is not None, _CLOSES_WITHIN_S, "the peer was not told")


def resolved_path(path: str, kept: dict[str, Any]) -> str:
    """Returns a path in which each segment ``$name`` is replaced by what was kept under that name."""
    return "/".join(str(resolved(part, kept)) for part in path.split("/"))


def _once() -> Callable[[], bool]:
    """Returns a function that is true at its second call.

    So whoever waits for it lets one change, or a twentieth of a second, pass.
    """
    looks = iter((False,))
    return lambda: next(looks, True)


def _form(parts: dict[str, tuple[str, str]]) -> bytes:
    lines = []
    for name, (content_type, text) in parts.items():
        lines += [
            f"--{_FORM}",
            f'Content-Disposition: form-data; name="{name}"',
            f"Content-Type: {content_type}",
            "",
            text,
        ]
    return "\r\n".join([*lines, f"--{_FORM}--", ""]).encode()
