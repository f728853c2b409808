"""Webhooks: what is told, in which order, and that nothing is lost while nobody takes it."""

import asyncio
import json
import os
import socket
import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import openai
import pytest
from structlog.testing import capture_logs

from bridge.daemon import Daemon
from bridge.errors import ConfigError
from bridge.observe.webhook_request import deliver, is_public, key_of
from bridge.observe.webhook_store import Delivery, WebhookStore
from bridge.observe.webhooks import Webhooks
from bridge.session.session import Session
from bridge.wire.own_events import UpstreamDown, UpstreamUp
from tests.end_to_end.web import open_socket, request
from tests.fakes import FakeClock
from tests.machine import scaled
from tests.observe.receiver import SECRET, Receiver
from tests.settings import config_for_tests
from tests.upstream.service import Refusal, Service

_LIMIT_S = scaled(10.0)


def _settings(folder: Path, *urls: str, **more: Any) -> dict[str, Any]:
    hooks = {"webhook_url": urls, "webhook_secret": (SECRET,), "webhook_queue": str(folder / "hooks.db")}
    return {**hooks, "webhook_private": True, **more}


async def _one_call(daemon: Daemon) -> str:
    """A call over a WebSocket, from its beginning to its end; its id."""
    async with open_socket(daemon.url, "model=any") as caller:
        return str(caller.events[0]["session"]["id"])


class TimedWebhooks:
    """Webhooks whose receiver does what the test says, with a clock of the test's own."""

    def __init__(self, folder: Path, url: str = "https://a.example/", **settings: Any) -> None:
        self.clock = FakeClock(1_000_000.0)
        self.sent: list[Delivery] = []
        """In the order of attempts."""
        self.answer: Callable[[Delivery], str | None] = lambda delivery: None
        self._news = asyncio.Event()
        settings = {"max_waiting": 100, "retry_s": 3600.0, **settings}
        self.webhooks = Webhooks(
            str(folder / "hooks.db"),
            [url],
            self._send,
            find=self._find,
            clock=self.clock,
            wall_clock=self.clock,
            **settings,
        )

    def tell(self, *names: str) -> None:
        """Each of these upstreams goes down."""
        for name in names:
            self.webhooks.event(UpstreamDown(upstream=name, code="upstream_lost"), b"")

    def told(self) -> list[str]:
        """Of which upstream each attempt was."""
        return [delivery.subject for delivery in self.sent]

    async def until(self, is_so: Callable[[], bool]) -> None:
        async with asyncio.timeout(_LIMIT_S):
            while not is_so():
                self.webhooks._lanes.look()  # the clock is the test's: who waits looks at it again
                await asyncio.sleep(0)

    async def settle(self) -> None:
        """Whoever is due has been tried when this returns."""
        self.webhooks._lanes.look()
        for _ in range(20):
            await asyncio.sleep(0)

    async def _send(self, delivery: Delivery) -> str | None:
        self.sent.append(delivery)
        return self.answer(delivery)

    def _find(self, call_id: str) -> Session:
        raise LookupError(call_id)


class _SentWebhooks(TimedWebhooks):
    """Webhooks that are really sent; the clock that paces attempts is the test's own."""

    async def _send(self, delivery: Delivery) -> str | None:
        return await deliver(
            delivery.url,
            delivery.event_id,
            delivery.body,
            keys=[key_of(SECRET)],
            timestamp=int(time.time()),
            allow_private=True,
        )


async def test_a_call_is_told_from_its_beginning_to_its_end(tmp_path: Path) -> None:
    """A stock SDK verifies each event; the last one has the call's figures; secrets of the URL are not in the body."""
    async with Receiver.receiving() as receiver:
        async with Daemon(config_for_tests(**_settings(tmp_path, receiver.url))) as daemon:
            call_id = await _one_call(daemon)
            opened, closed = await receiver.until(2)
    assert (opened.type, closed.type) == ("call.opened", "call.closed")
    assert opened.id != closed.id
    assert opened.data.call_id == closed.data.call_id == call_id
    told = [json.loads(each.body) for each in receiver.taken]
    assert told[0].keys() == {"id", "object", "created_at", "type", "data"}
    assert told[0]["data"]["transport"] == "websocket"
    assert (told[1]["data"]["result"], told[1]["data"]["reason"]) == ("success", "client_closed")
    assert told[1]["data"]["stats"]["upstream"]["name"] == "local"
    assert receiver.taken[0].path == "/hooks?token=x"


async def test_a_forged_signature_is_found_out(tmp_path: Path) -> None:
    """What was changed on its way, or signed with another secret, is refused by the stock SDK."""
    async with Receiver.receiving() as receiver:
        arguments: dict[str, Any] = {"timestamp": int(time.time()), "allow_private": True}
        assert await deliver(receiver.url, "evt_1", b'{"type":"x"}', keys=[key_of(SECRET)], **arguments) is None
        assert await deliver(receiver.url, "evt_2", b'{"type":"x"}', keys=[b"other"], **arguments) is None
        assert await deliver(receiver.url, "evt_3", b'{"type":"x"}', keys=[b"old", key_of(SECRET)], **arguments) is None
    good, bad, rotated = receiver.taken
    assert good.event.type == rotated.event.type == "x"
    with pytest.raises(openai.InvalidWebhookSignatureError):
        _ = bad.event


async def test_a_recording_is_told_when_its_files_are_complete(tmp_path: Path) -> None:
    """Between the beginning and the end of the day: its files by name."""
    folder = tmp_path / "recordings"
    folder.mkdir()
    more = {"record_dir": str(folder), "record_calls": True}
    async with Receiver.receiving() as receiver:
        async with Daemon(config_for_tests(**_settings(tmp_path, receiver.url, **more))) as daemon:
            await _one_call(daemon)
            events = {event.type: event for event in await receiver.until(3)}
    assert events.keys() == {"call.opened", "call.closed", "recording.completed"}
    assert sorted(events["recording.completed"].data.files) == sorted(path.name for path in folder.iterdir())


async def test_an_upstream_that_goes_down_is_told_once(tmp_path: Path) -> None:
    """The next call, which the fallback answers as well, tells nothing more of it."""
    async with Service.serving(Refusal(503)) as service:
        url = service.url
    settings = {"upstream": url, "upstream_fallback": ("local",), "upstream_tries": 1}
    async with Receiver.receiving() as receiver:
        async with Daemon(config_for_tests(**_settings(tmp_path, receiver.url, **settings))) as daemon:
            for _ in range(2):
                await _one_call(daemon)
            kinds = [event.type for event in await receiver.until(5)]
    assert sorted(kinds) == ["call.closed", "call.closed", "call.opened", "call.opened", "upstream.down"]
    down = next(json.loads(each.body) for each in receiver.taken if b"upstream.down" in each.body)
    assert down["data"].keys() == {"upstream", "code"}
    assert down["data"]["upstream"] == "upstream"


async def test_a_receiver_that_is_down_for_a_minute_loses_none(tmp_path: Path) -> None:
    """Everything comes, in the order of each call, however often it had to be tried."""
    timed = TimedWebhooks(tmp_path)
    async with timed.webhooks as webhooks:
        timed.answer = lambda delivery: "no route to host"
        for _ in range(20):
            timed.tell("a", "b")
            webhooks.event(UpstreamUp(upstream="a"), b"")
        await timed.until(lambda: webhooks.stats.failures == 2)
        for _ in range(120):
            timed.clock.now += 0.5
            await timed.settle()
        assert (webhooks.stats.delivered, webhooks.stats.waiting) == (0, 60)
        assert 8 <= webhooks.stats.failures <= 20  # after 1, 2, 4, 8, 16 and 32 s, for two upstreams
        timed.sent.clear()
        timed.answer = lambda delivery: None
        timed.clock.now += 600
        await timed.until(lambda: webhooks.stats.waiting == 0)
    assert (webhooks.stats.delivered, webhooks.stats.dead) == (60, 0)
    assert [delivery.type for delivery in timed.sent if delivery.subject == "a"] == [
        "upstream.down",
        "upstream.up",
    ] * 20
    for name in ("a", "b"):
        numbers = [delivery.number for delivery in timed.sent if delivery.subject == name]
        assert numbers == sorted(numbers)


def _has_failed(webhooks: Webhooks, count: int) -> bool:
    return webhooks.stats.failures >= count


def _waits_less(webhooks: Webhooks, before: int) -> bool:
    return webhooks.stats.waiting < before


async def test_a_real_receiver_that_is_down_for_a_minute(tmp_path: Path) -> None:
    """Its port refuses connections, and then it is there again: it gets everything, and everything is signed."""
    async with Receiver.receiving() as gone:
        port, url = gone.port, gone.url
    timed = _SentWebhooks(tmp_path, url)
    async with timed.webhooks as webhooks:
        for _ in range(5):
            timed.tell("a", "b")
        for attempt in range(7):
            await timed.until(partial(_has_failed, webhooks, 2 * (attempt + 1)))
            timed.clock.now += 2.0**attempt * 1.5  # beyond the spread of each wait
        assert timed.clock.now >= 1_000_000 + 60
        assert (webhooks.stats.delivered, webhooks.stats.waiting) == (0, 10)
        async with Receiver.receiving(port) as receiver:
            while webhooks.stats.waiting:
                timed.clock.now += 600
                await timed.until(partial(_waits_less, webhooks, webhooks.stats.waiting))
    assert (webhooks.stats.delivered, webhooks.stats.dead) == (10, 0)
    told = [json.loads(each.body)["data"]["upstream"] for each in receiver.taken]
    assert sorted(told) == ["a"] * 5 + ["b"] * 5
    assert len({each.event.id for each in receiver.taken}) == 10


async def test_one_that_is_not_taken_holds_up_its_own_call_alone(tmp_path: Path) -> None:
    """What follows of the same call waits for it; what happens to others does not."""
    timed = TimedWebhooks(tmp_path)
    async with timed.webhooks as webhooks:
        timed.answer = lambda delivery: "status 500" if delivery.subject == "a" else None
        timed.tell("a", "a", "b", "c")
        await timed.until(lambda: webhooks.stats.delivered == 2 and webhooks.stats.failures == 1)
        assert sorted(timed.told()) == ["a", "b", "c"]
        timed.answer = lambda delivery: None
        timed.clock.now += 2
        await timed.until(lambda: webhooks.stats.waiting == 0)
    assert timed.told()[3:] == ["a", "a"]


async def test_a_restart_loses_none(tmp_path: Path) -> None:
    """What was not delivered waits in the file, in its order, under the same ids, and who may read it is its owner."""
    before = TimedWebhooks(tmp_path)
    async with before.webhooks as webhooks:
        before.answer = lambda delivery: "refused"
        before.tell("a", "a", "b")
        await before.until(lambda: webhooks.stats.failures == 2)
    assert (tmp_path / "hooks.db").stat().st_mode & 0o777 == 0o600
    after = TimedWebhooks(tmp_path)
    async with after.webhooks as webhooks:
        await after.until(lambda: webhooks.stats.delivered == 3)
    assert sorted(after.told()) == ["a", "a", "b"]
    assert {each.event_id for each in before.sent} < {each.event_id for each in after.sent}
    assert [each.attempts for each in after.sent if each.subject == "b"] == [1]
    empty = TimedWebhooks(tmp_path)
    async with empty.webhooks as webhooks:
        assert webhooks.stats.waiting == 0


async def test_what_waits_for_a_receiver_that_is_not_named_any_more_is_given_up(tmp_path: Path) -> None:
    """It is counted, said once, and becomes a dead letter: the file does not keep it for ever."""
    before = TimedWebhooks(tmp_path, "https://old.example/")
    async with before.webhooks as webhooks:
        before.answer = lambda delivery: "refused"
        before.tell("a", "b")
        await before.until(lambda: webhooks.stats.failures == 2)
    after = TimedWebhooks(tmp_path)
    with capture_logs() as lines:
        async with after.webhooks as webhooks:
            assert (webhooks.stats.waiting, webhooks.stats.dead) == (0, 2)
    (dead,) = [line for line in lines if line["event"] == "webhook.dead"]
    assert dead["problem"] == "webhook_url no longer names this receiver."
    again = TimedWebhooks(tmp_path, "https://old.example/")
    async with again.webhooks as webhooks:
        assert (webhooks.stats.waiting, webhooks.stats.dead) == (0, 0)
    with closing(sqlite3.connect(tmp_path / "hooks.db")) as file:
        assert file.execute("SELECT count(*) FROM deliveries WHERE died_at IS NOT NULL").fetchone() == (2,)


async def test_a_daemon_that_is_stopped_tells_the_rest_when_it_runs_again(tmp_path: Path) -> None:
    """The end of calls that a stop cuts is told by the next process."""
    async with Receiver.receiving() as receiver:
        port, url = receiver.port, receiver.url
    async with Daemon(config_for_tests(**_settings(tmp_path, url))) as daemon:
        call_id = await _one_call(daemon)
    async with Receiver.receiving(port) as receiver:
        async with Daemon(config_for_tests(**_settings(tmp_path, url))):
            opened, closed = await receiver.until(2)
    assert (opened.type, closed.type) == ("call.opened", "call.closed")
    assert opened.data.call_id == closed.data.call_id == call_id


async def test_what_nobody_takes_for_long_is_a_dead_letter(tmp_path: Path) -> None:
    """It is counted, told in the log, kept in the file, and the next event of the same call has its turn."""
    timed = TimedWebhooks(tmp_path, retry_s=3600.0)
    with capture_logs() as lines:
        async with timed.webhooks as webhooks:
            timed.answer = lambda delivery: "status 500"
            timed.tell("a")
            await timed.until(lambda: webhooks.stats.failures == 1)
            timed.clock.now += 3601
            await timed.until(lambda: webhooks.stats.dead == 1)
            timed.answer = lambda delivery: None
            timed.tell("a")
            await timed.until(lambda: webhooks.stats.delivered == 1)
    dead = [line for line in lines if line["event"] == "webhook.dead"]
    assert [(line["type"], line["problem"], line["url"]) for line in dead] == [
        ("upstream.down", "status 500", "https://a.example/")
    ]
    with closing(sqlite3.connect(tmp_path / "hooks.db")) as file:
        assert file.execute("SELECT count(*) FROM deliveries WHERE died_at IS NOT NULL").fetchone() == (1,)


async def test_who_says_gone_is_told_nothing_more_of_it(tmp_path: Path) -> None:
    """410 is final."""
    timed = TimedWebhooks(tmp_path)
    async with timed.webhooks as webhooks:
        timed.answer = lambda delivery: "status 410"
        timed.tell("a")
        await timed.until(lambda: webhooks.stats.waiting == 0)
        assert webhooks.stats.dead == 1


async def test_the_queue_is_bounded(tmp_path: Path) -> None:
    """What finds it full is counted and lost; what waits is kept."""
    timed = TimedWebhooks(tmp_path, max_waiting=3)
    async with timed.webhooks as webhooks:
        timed.answer = lambda delivery: "refused"
        timed.tell("a", "b", "c", "d", "e")
        await timed.until(lambda: webhooks.stats.failures == 3)
        assert (webhooks.stats.waiting, webhooks.stats.dead) == (3, 2)
    assert sorted(set(timed.told())) == ["a", "b", "c"]


async def test_a_redirect_is_not_followed() -> None:
    """It would lead an event, and its signature, wherever somebody likes."""
    async with Receiver.receiving(refuses=(302,)) as receiver:
        problem = await deliver(receiver.url, "evt_1", b"{}", keys=[b"k"], timestamp=1, allow_private=True)
        assert problem == "status 302"
        assert receiver.taken == []


@pytest.mark.parametrize(
    "host",
    [
        *("127.0.0.1", "localhost", "10.0.0.1", "169.254.169.254", "0.0.0.0", "100.64.0.1", "224.0.0.1", "192.88.99.1"),
        *("[::1]", "[fd00::1]", "[fe80::1]", "[fec0::1]", "[ff02::1]", "[::ffff:10.0.0.1]", "[::10.0.0.1]"),
        *("[64:ff9b::10.0.0.1]", "[64:ff9b::169.254.169.254]", "[64:ff9b:1::10.0.0.1]", "[2002:a00:1::1]"),
        *("[2002:7f00:1::]", "[2001:0:a00:1::1]", "[2001:db8::1]"),
    ],
)
async def test_a_private_address_is_no_receiver(host: str) -> None:
    """Unless the settings allow it: nothing is connected to."""
    problem = await deliver(f"http://{host}:9/", "evt_1", b"{}", keys=[b"k"], timestamp=1, allow_private=False)
    assert problem is not None
    assert problem.endswith("is a private address; see the setting webhook_private")


@pytest.mark.parametrize(
    "address", ["93.184.215.14", "2606:2800:21f::1", "64:ff9b::93.184.215.14", "2002:5db8:d70e::1", "::ffff:5db8:d70e"]
)
def test_a_public_address_is_a_receiver(address: str) -> None:
    """Written as an IPv4 address, as one of IPv6, or as an IPv4 address inside one of IPv6."""
    assert is_public(address)


async def test_a_receiver_that_is_not_there_is_a_problem_and_no_fault() -> None:
    """As is a name that nobody has."""
    async with Receiver.receiving() as receiver:
        url = receiver.url
    for each in (url, "http://no-such-host.invalid/"):
        assert await deliver(each, "evt_1", b"{}", keys=[b"k"], timestamp=1, allow_private=True)


async def test_a_name_that_nobody_answers_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is looked up once at a time, beside the event loop's own look-ups, and other receivers do not wait for it."""
    asked: list[str] = []
    answered = threading.Event()
    look_up = socket.getaddrinfo

    def getaddrinfo(host: str, *more: Any, **options: Any) -> Any:
        asked.append(host)
        if host == "silent.example":
            answered.wait(_LIMIT_S)
        return look_up("127.0.0.1", *more, **options)

    monkeypatch.setattr("bridge.names.socket.getaddrinfo", getaddrinfo)
    more: dict[str, Any] = {"keys": [b"k"], "timestamp": 1, "allow_private": True}
    async with Receiver.receiving() as receiver, asyncio.TaskGroup() as tasks:
        port = urlsplit(receiver.url).port
        silent = [
            tasks.create_task(deliver(f"http://silent.example:{port}/", f"evt_{number}", b"{}", **more))
            for number in range(12)
        ]
        assert await deliver(f"http://answered.example:{port}/", "evt", b"{}", **more) is None
        assert sorted(asked) == ["answered.example", "silent.example"]
        answered.set()
    assert [task.result() for task in silent] == [None] * 12
    assert len(asked) == 2


def test_two_processes_share_a_file_and_no_event(tmp_path: Path) -> None:
    """Each has its own events; those of one that has ended are the other's, in their order."""
    path = str(tmp_path / "hooks.db")
    first, second = WebhookStore(path), WebhookStore(path)
    url = "https://hooks.example/"
    for number, store in enumerate((first, second, first)):
        store.add_deliveries([Delivery(0, url, "rtc_1", f"evt_{number}", "call.opened", b"{}", 1.0)])
    assert second.adopt([url], 2.0) == ([], 0)
    first.close()
    adopted, given_up = second.adopt([url], 2.0)
    assert ([one.event_id for one in adopted], given_up) == (["evt_0", "evt_2"], 0)
    assert second.adopt([url], 2.0) == ([], 0)
    second.close()
    assert [entry.name for entry in tmp_path.iterdir()] == ["hooks.db"]


async def test_what_a_process_leaves_is_delivered_by_the_other(tmp_path: Path) -> None:
    """Also if the process was killed, and without a restart of the one that runs."""
    timed = TimedWebhooks(tmp_path)
    timed.webhooks.look_s = 0.01
    async with timed.webhooks:
        killed = await asyncio.to_thread(WebhookStore, timed.webhooks._path)
        left = Delivery(0, "https://a.example/", "rtc_1", "evt_1", "call.closed", b"{}", timed.clock())
        await asyncio.to_thread(killed.add_deliveries, [left])
        os.close(killed._lock)  # as the kernel does with what a process held
        await timed.until(lambda: timed.told() == ["rtc_1"])
        killed._file.close()


async def test_a_file_of_something_else_is_no_queue(tmp_path: Path) -> None:
    """The start is refused, and the setting named."""
    path = tmp_path / "hooks.db"
    path.write_text("something else, which is long enough to be told from an empty file" * 20)
    with pytest.raises(ConfigError, match="webhook_queue"):
        await asyncio.to_thread(WebhookStore, str(path))


async def test_metrics_tell_of_webhooks(tmp_path: Path) -> None:
    """How many were delivered, refused, lost, and wait."""
    async with Receiver.receiving(refuses=(500,)) as receiver:
        async with Daemon(config_for_tests(**_settings(tmp_path, receiver.url))) as daemon:
            await _one_call(daemon)
            await receiver.until(2)
            text = (await request("GET", f"{daemon.url}metrics")).body.decode()
    assert "bridge_webhook_failures_total 1.0" in text
    for name in ("bridge_webhooks_delivered_total", "bridge_webhooks_dead_total", "bridge_webhooks_waiting"):
        assert f"\n{name} " in text


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"webhook_url": ("ftp://a.example/",)}, "webhook_url: must be https"),
        ({"webhook_url": ("http://a.example/",)}, "webhook_url: must be https unless webhook_private is set"),
        ({"webhook_url": ("https://a.example/",)}, "webhook_url: needs webhook_secret"),
        ({"webhook_url": ("https://a.example/",), "webhook_secret": ("s",)}, "webhook_url: needs webhook_queue"),
        ({"webhook_secret": ("whsec_!",)}, "webhook_secret: must be base64"),
    ],
)
def test_settings_that_could_never_work_are_refused(settings: dict[str, Any], words: str) -> None:
    """At the start, by their names; a secret is not shown."""
    faults = [f"{fault.setting}: {fault.reason}" for fault in config_for_tests(**settings).faults()]
    assert any(words in fault for fault in faults)
    assert "whsec_" not in "".join(faults).replace("after whsec_", "")
