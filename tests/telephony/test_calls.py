"""What happens in a call: keys, parameters, hang-ups, messages of no use, sockets that drop and come back."""

import asyncio
import json
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest

from bridge.client import CallFailed
from bridge.client.carriers.dialling import SocketWire
from bridge.client.carriers.table import CARRIERS, connect_carrier
from bridge.daemon import Daemon
from bridge.media.playback import Part
from tests.end_to_end.conftest import ServeWith
from tests.end_to_end.sound import match, resample, samples_of
from tests.end_to_end.web import open_socket, request
from tests.machine import scaled
from tests.telephony.calling import (
    Caller,
    calling,
    dialling,
    figures,
    from_telephone,
    gone,
    new_token,
    opened,
    session_of,
    until,
)
from tests.telephony.rows import ROWS, SETTINGS, rows_that

_LIMIT_S = scaled(5.0)


# Keys and parameters


@pytest.mark.parametrize("carrier", rows_that(keys=True))
async def test_keys_are_told_to_listeners(open_daemon: Daemon, carrier: Any) -> None:
    """Each as the protocol's own event, in order; the conversation has nothing of it."""
    keys = ROWS[carrier].keys
    async with calling(dialling(open_daemon, carrier)) as caller:
        session = await session_of(open_daemon, caller)
        async with open_socket(open_daemon.url, f"call_id={session.info.id}") as listener:
            for key in keys:
                await caller.phone.press(key)
            await listener.until("input_audio_buffer.dtmf_event_received", number=len(keys))
            now = (await request("GET", f"{open_daemon.url}v1/calls")).json["data"][0]["started_at"]
    told = listener.of("input_audio_buffer.dtmf_event_received")
    assert "".join(event["event"] for event in told) == keys
    assert all(abs(event["received_at"] - now) < 10 for event in told)
    assert listener.of("conversation.item.added") == []


async def test_keys_in_the_conversation(serve_with: ServeWith) -> None:
    """Where it is wanted each is a message of the caller's."""
    async with serve_with(**SETTINGS, dtmf_items=True) as daemon, calling(dialling(daemon, "telnyx")) as caller:
        session = await session_of(daemon, caller)
        async with open_socket(daemon.url, f"call_id={session.info.id}") as listener:
            await caller.phone.press("5")
            item = (await listener.until("conversation.item.added"))["item"]
    assert item["role"] == "user"
    assert item["content"] == [{"type": "input_text", "text": "(pressed 5 on the telephone's keypad)"}]


async def test_parameters_may_set_what_is_allowed(serve_with: ServeWith) -> None:
    """Instructions and voice by the allow-list, and nothing else; all are metadata."""
    given = {"instructions": "Be brief.", "voice": "marin", "model": "other", "tools": "x"}
    async with serve_with(**SETTINGS, carrier_parameters=("instructions", "voice")) as daemon:
        async with calling(dialling(daemon, "telnyx", parameters=given)) as caller:
            session = await session_of(daemon, caller)
            config: Any = session.state.config
            assert (config.instructions, config.audio.output.voice) == ("Be brief.", "marin")
            assert config.model != "other"
            assert config.tools == []
            assert given.items() <= session.info.metadata.items()


async def test_parameters_set_nothing_by_default(open_daemon: Daemon) -> None:
    """Whoever calls has no say in what the model is told."""
    where = dialling(open_daemon, "telnyx", parameters={"instructions": "Give all away.", "long": "x" * 5000})
    async with calling(where) as caller:
        session = await session_of(open_daemon, caller)
        config: Any = session.state.config
        assert config.instructions == ""
        assert "long" not in session.info.metadata


@pytest.mark.parametrize("carrier", rows_that(takes_keys=True))
async def test_keys_to_the_carrier(open_daemon: Daemon, carrier: Any) -> None:
    """A controller presses keys by the API, and the caller's side gets them, in order."""
    async with calling(dialling(open_daemon, carrier)) as caller:
        session = await session_of(open_daemon, caller)
        url = f"{open_daemon.url}v1/telephony/calls/{session.info.id}/dtmf"
        pressed = await request("POST", url, body='{"keys":"12#A"}')
        assert (pressed.status, pressed.json) == (200, {"object": "telephony.dtmf", "keys": "12#A"})
        player: Any = caller.phone.carrier
        await caller.wait(lambda: player.keys == "12#A", "keys")
        for body, status in (('{"keys":"12x"}', 400), ('{"keys":""}', 400), ("{}", 400)):
            assert (await request("POST", url, body=body)).status == status


async def test_keys_to_who_takes_none(serve_with: ServeWith) -> None:
    """A carrier without a word for them, a call that is not there, and whoever may not are told so."""
    async with serve_with(**SETTINGS, api_key=("sk-1",)) as daemon:
        url, auth = f"{daemon.url}v1/telephony/calls", {"Authorization": "Bearer sk-1"}
        async with calling(dialling(daemon, "telnyx")) as caller:
            session = await session_of(daemon, caller)
            place = f"{url}/{session.info.id}/dtmf"
            refused = await request("POST", place, body='{"keys":"1"}', headers=auth)
            assert (refused.status, refused.json["error"]["code"]) == (400, "no_dtmf")
            assert (await request("POST", place, body='{"keys":"1"}')).status == 401
        assert (await request("POST", f"{url}/rtc_none/dtmf", body='{"keys":"1"}', headers=auth)).status == 404


# Who is let in


@pytest.mark.parametrize("carrier", CARRIERS)
async def test_a_wrong_secret_opens_no_call(open_daemon: Daemon, carrier: Any) -> None:
    """Whatever the carrier shows is judged before any sound; the refusal is counted, and no session was opened."""
    row = ROWS[carrier]
    with suppress(CallFailed):  # if its webhook or its upgrade was refused
        async with calling(dialling(open_daemon, carrier, secret=row.wrong)) as caller:
            await asyncio.wait_for(caller.phone.ended.wait(), _LIMIT_S)
    refused = open_daemon.telephony.calls.refused
    assert [refused[f"{row.transport}.{code}"] for code in row.refusals] == [1] * len(row.refusals)
    assert refused.total() == len(row.refusals)
    assert open_daemon.registry.sessions == []


@pytest.mark.parametrize("carrier", rows_that(takes_tokens=True))
async def test_a_token_opens_one_call(open_daemon: Daemon, carrier: Any) -> None:
    """A second call that shows the token of the first is refused, although the first is over."""
    row = ROWS[carrier]
    where = dialling(open_daemon, carrier, call="call-1")
    if row.is_secret_shown:  # in place of the secret, which is good again and again
        where = replace(where, secret=new_token(open_daemon))
    async with calling(where) as first:
        await session_of(open_daemon, first)
    await gone(open_daemon)
    brought: Any = getattr(first.phone.carrier, "parameters", {})
    token = {"token": brought["token"]} if "token" in brought else {}
    async with calling(replace(where, call="call-2", parameters=token)) as second:
        await asyncio.wait_for(second.phone.ended.wait(), _LIMIT_S)
    assert open_daemon.telephony.calls.refused[f"{row.transport}.invalid_token"] == 1
    assert open_daemon.registry.sessions == []


# Hanging up


@pytest.mark.parametrize("carrier", CARRIERS)
async def test_sound_that_waits_goes_with_the_call(open_daemon: Daemon, carrier: Any) -> None:
    """Minutes of an answer that the caller will not hear are not kept when the call has ended."""
    async with calling(dialling(open_daemon, carrier)) as caller:
        session = await session_of(open_daemon, caller)
        leg: Any = session.legs.current
        leg.play(Part("resp_1", "item_1", 0, 0), bytes(leg.output_format.size_of(60_000)))
        assert figures(session)["queued_ms"] > 50_000
    await gone(open_daemon)
    assert leg.audio.queued_ms == 0


@pytest.mark.parametrize("carrier", CARRIERS)
async def test_caller_hangs_up(open_daemon: Daemon, carrier: Any) -> None:
    """The session ends at once, and so do its listeners."""
    async with calling(dialling(open_daemon, carrier)) as caller:
        session = await session_of(open_daemon, caller)
        async with open_socket(open_daemon.url, f"call_id={session.info.id}&audio=pcm16") as listener:
            await until(open_daemon, lambda: figures(session)["messages"] > 0, "sound")
            await caller.phone.hang_up()
            assert await listener.close_code() == 1000
            assert listener.events[-1] == {
                "type": "bridge.call.closed",
                "event_id": listener.events[-1]["event_id"],
                "call_id": session.info.id,
                "result": "success",
                "reason": "caller_hung_up",
            }
    assert open_daemon.registry.sessions == []
    assert open_daemon.telephony.calls.running.total() == 0


@pytest.mark.parametrize("carrier", CARRIERS)
async def test_bridge_hangs_up(open_daemon: Daemon, carrier: Any) -> None:
    """By the API: the carrier is told in its own way, and the socket is closed."""
    async with calling(dialling(open_daemon, carrier)) as caller:
        session = await session_of(open_daemon, caller)
        url = f"{open_daemon.url}v1/realtime/calls/{session.info.id}"
        assert (await request("DELETE", url)).status == 200
        await asyncio.wait_for(caller.phone.ended.wait(), _LIMIT_S)
        assert caller.phone.carrier.has_hung_up == ROWS[carrier].has_word
        if isinstance(caller.phone.wire, SocketWire):
            await caller.phone.wire.close()
            assert caller.phone.wire.connection.close_code == 1000


@pytest.mark.parametrize("carrier", rows_that(comes_back=True))
@pytest.mark.parametrize("ends", ["caller", "bridge"])
async def test_a_stream_without_media_is_no_success(open_daemon: Daemon, carrier: Any, ends: str) -> None:
    """Whoever ends it: nobody could be heard, and the reason says so."""
    player, wire = await connect_carrier(dialling(open_daemon, carrier))
    await wire.send_messages([*player.opening_messages(), *player.key_messages("5")])
    session = await opened(open_daemon)
    async with open_socket(open_daemon.url, f"call_id={session.info.id}&audio=pcm16") as listener:
        if ends == "caller":
            await wire.send_messages(player.hang_up_messages())
            await wire.close()
        else:
            await request("DELETE", f"{open_daemon.url}v1/realtime/calls/{session.info.id}")
        assert await listener.close_code() == 1000
    await wire.close()
    assert (listener.events[-1]["result"], listener.events[-1]["reason"]) == ("client_error", "no_media")


@pytest.mark.parametrize("carrier", ["plivo", "vobiz"])
async def test_a_call_that_was_hung_up_is_not_dialled_again(open_daemon: Daemon, carrier: Any) -> None:
    """A carrier that takes our closing for a broken line connects once more, and is refused, whatever it shows."""
    where = dialling(open_daemon, carrier, call="call-1")
    async with calling(where) as first:
        session = await session_of(open_daemon, first)
        await request("DELETE", f"{open_daemon.url}v1/realtime/calls/{session.info.id}")
        await asyncio.wait_for(first.phone.ended.wait(), _LIMIT_S)
    async with calling(where) as again:
        await asyncio.wait_for(again.phone.ended.wait(), _LIMIT_S)
    assert open_daemon.telephony.calls.refused == {f"{carrier}.call_over": 1}
    async with calling(replace(where, call="call-2")) as other:
        await session_of(open_daemon, other)


async def test_calls_end_with_the_daemon(serve_with: ServeWith) -> None:
    """Nothing is left behind, whatever the carrier."""
    async with serve_with(**SETTINGS) as daemon:
        callers = [calling(dialling(daemon, carrier)) for carrier in CARRIERS]
        entered = [await caller.__aenter__() for caller in callers]
        await session_of(daemon, entered[0], len(CARRIERS))
    for caller, context in zip(entered, callers, strict=True):
        await asyncio.wait_for(caller.phone.ended.wait(), _LIMIT_S)
        await context.__aexit__(None, None, None)


# What is of no use


@pytest.mark.parametrize("carrier", CARRIERS)
async def test_no_message_ends_a_call(open_daemon: Daemon, carrier: Any) -> None:
    """Whatever comes is ignored and counted; the call goes on, and what is right is still heard."""
    row = ROWS[carrier]
    async with calling(dialling(open_daemon, carrier)) as caller:
        session = await session_of(open_daemon, caller)
        for message in row.garbage:
            await caller.phone.wire.send_messages([message])
        await until(open_daemon, lambda: figures(session)["faults"] >= row.faults, "count of the garbage")
        heard = figures(session)["messages"]
        await until(open_daemon, lambda: figures(session)["messages"] > heard, "sound behind the garbage")
        assert not caller.phone.ended.is_set()
        assert caller.phone.carrier.complaints == []


async def test_asterisk_may_send_media_first(open_daemon: Daemon) -> None:
    """Under load it does; what came before ``MEDIA_START`` is heard as well."""
    where = dialling(open_daemon, "asterisk")
    _, wire = await connect_carrier(where)
    tone = bytes(range(160))
    await wire.send_messages([tone, tone, "MEDIA_START channel_id:pbx-1.1 format:ulaw", tone])
    session = await opened(open_daemon)
    await until(open_daemon, lambda: figures(session)["messages"] == 2, "sound of before and after")
    assert figures(session)["faults"] == 0
    await wire.close()


# Dropping and coming back


@pytest.mark.parametrize("carrier", rows_that(comes_back=True, asks_again=False))
async def test_a_socket_that_comes_back_goes_on_with_its_call(open_daemon: Daemon, carrier: Any) -> None:
    """The session is the same, its listeners notice nothing, and what is said afterwards is heard."""
    where = dialling(open_daemon, carrier, call="call-1")
    async with calling(where) as first:
        session = await session_of(open_daemon, first)
        async with open_socket(open_daemon.url, f"call_id={session.info.id}") as listener:
            first.phone.wire.cut()
            await asyncio.wait_for(first.phone.ended.wait(), _LIMIT_S)
            brought: Any = getattr(first.phone.carrier, "parameters", {})  # it dials with what it was given before
            async with calling(replace(where, parameters=brought)) as second:
                if ROWS[carrier].keys:
                    await second.phone.press("7")
                    await listener.until("input_audio_buffer.dtmf_event_received")
                await until(open_daemon, lambda: figures(session)["returns"] == 1, "return")
                assert open_daemon.registry.sessions == [session]
                [call] = (await request("GET", f"{open_daemon.url}v1/calls")).json["data"]
                assert call["peer"]["returns"] == 1
            assert await listener.close_code() == 1000


@pytest.mark.parametrize("carrier", rows_that(asks_again=True))
async def test_a_carrier_that_asks_again_goes_on_with_its_call(open_daemon: Daemon, carrier: Any) -> None:
    """The stream breaks, the carrier asks the webhook what is next, and the new stream is the same session's."""
    async with calling(dialling(open_daemon, carrier, call="call-1")) as caller:
        session = await session_of(open_daemon, caller)
        async with open_socket(open_daemon.url, f"call_id={session.info.id}") as listener:
            caller.phone.wire.cut()
            await until(open_daemon, lambda: figures(session)["returns"] == 1, "return")
            await caller.phone.press("7")
            await listener.until("input_audio_buffer.dtmf_event_received")
            assert open_daemon.registry.sessions == [session]


@pytest.mark.parametrize("carrier", rows_that(asks_again=True))
async def test_a_caller_hangs_up_while_the_carrier_asks_again(open_daemon: Daemon, carrier: Any) -> None:
    """The call is over at the carrier, and no new stream is opened for it."""
    async with calling(dialling(open_daemon, carrier)) as caller:
        await session_of(open_daemon, caller)
        caller.phone.wire.cut()
    await asyncio.wait_for(caller.phone.ended.wait(), _LIMIT_S)


async def test_audiosocket_is_hung_up_by_closing_it(serve_with: ServeWith) -> None:
    """Also if sound of ours was still unread, which makes a reset of it: a success, and nobody is waited for."""
    async with serve_with(**SETTINGS, carrier_grace_s=3600) as daemon:
        async with calling(dialling(daemon, "audiosocket")) as caller:
            session = await session_of(daemon, caller)
            async with open_socket(daemon.url, f"call_id={session.info.id}&audio=pcm16") as listener:
                caller.phone.wire.cut()
                assert await listener.close_code() == 1000
        ending = listener.events[-1]
        assert (ending["type"], ending["result"], ending["reason"]) == (
            "bridge.call.closed",
            "success",
            "caller_hung_up",
        )
        assert daemon.registry.sessions == []


async def test_audiosocket_comes_back_with_its_uuid(open_daemon: Daemon) -> None:
    """A UUID that is good once is good for its own call's return, whose first connection nobody has closed yet."""
    uuid = (await request("POST", f"{open_daemon.url}v1/telephony/audiosocket")).json["uuid"]
    async with calling(dialling(open_daemon, "audiosocket", secret=uuid)) as first:
        session = await session_of(open_daemon, first)
        async with calling(dialling(open_daemon, "audiosocket", secret=uuid)) as second:
            await second.wait(lambda: figures(session)["returns"] == 1, "return")
            async with open_socket(open_daemon.url, f"call_id={session.info.id}") as listener:
                await second.phone.press("7")
                await listener.until("input_audio_buffer.dtmf_event_received")
            assert open_daemon.registry.sessions == [session]


async def test_calls_with_the_same_fixed_uuid_are_two(open_daemon: Daemon) -> None:
    """A UUID that stands in the dialplan tells nothing of which call it is."""
    async with (
        calling(dialling(open_daemon, "audiosocket")) as first,
        calling(dialling(open_daemon, "audiosocket")) as second,
    ):
        await session_of(open_daemon, second, 2)
        assert not first.phone.ended.is_set()


@pytest.mark.slow
async def test_an_answer_goes_on_after_the_drop(open_daemon: Daemon, short_pcm: bytes) -> None:
    """What the carrier had not confirmed as played is played to the caller when the socket is back."""
    async with calling(dialling(open_daemon, "signalwire", call="CA1")) as first:
        await session_of(open_daemon, first)
        first.say(short_pcm)
        await first.wait(lambda: len(first.sounding) >= 25, "half a second of the answer")
        first.phone.wire.cut()
        await asyncio.wait_for(first.phone.ended.wait(), _LIMIT_S)
        async with calling(dialling(open_daemon, "signalwire", call="CA1")) as second:
            await second.hear_answer()
    whole = resample(samples_of(short_pcm), 24_000, 8000)
    parts = [match(_sounding(caller), whole) for caller in (first, second)]
    assert min(part.correlation for part in parts) > 0.9
    ends_at = len(_sounding(first)) - parts[0].lag
    assert 0 <= ends_at + parts[1].lag <= 160 * 7  # at most the piece that was being played is heard again


def _sounding(caller: Caller) -> Any:
    """From the first sound to the last."""
    at = [number for number, (_, heard) in enumerate(caller.frames) if heard != b"\xff" * 160]
    return caller.heard[at[0] * 160 : (at[-1] + 1) * 160]


async def test_a_socket_that_stays_away_ends_the_call(serve_with: ServeWith) -> None:
    """After the grace time, with the reason."""
    async with serve_with(**SETTINGS, carrier_grace_s=0.3) as daemon:
        async with calling(dialling(daemon, "telnyx")) as caller:
            session = await session_of(daemon, caller)
            async with open_socket(daemon.url, f"call_id={session.info.id}&audio=pcm16") as listener:
                began = asyncio.get_running_loop().time()
                caller.phone.wire.cut()
                assert await listener.close_code() == 1000
                assert asyncio.get_running_loop().time() - began > 0.3
            assert (listener.events[-1]["result"], listener.events[-1]["reason"]) == ("client_error", "carrier_lost")
        assert daemon.registry.sessions == []


async def test_a_second_socket_of_a_call_takes_over(open_daemon: Daemon) -> None:
    """A carrier that noticed the loss before us: the old socket is closed, and the call goes on."""
    async with calling(dialling(open_daemon, "telnyx", call="c")) as first:
        session = await session_of(open_daemon, first)
        async with calling(dialling(open_daemon, "telnyx", call="c")) as second:
            await asyncio.wait_for(first.phone.ended.wait(), _LIMIT_S)
            async with open_socket(open_daemon.url, f"call_id={session.info.id}") as listener:
                await second.phone.press("7")
                await listener.until("input_audio_buffer.dtmf_event_received")
            assert open_daemon.registry.sessions == [session]


async def test_a_call_is_not_taken_over(open_daemon: Daemon) -> None:
    """Who knows its id and has a token of their own does not get it; who has the call's own token does."""
    tokens = []
    for _ in range(2):
        body = json.dumps({"bridge": {"role": "telephone"}})
        reply = await request("POST", f"{open_daemon.url}v1/realtime/client_secrets", body=body)
        tokens.append(reply.json["value"])
    own, other = (dialling(open_daemon, "telnyx", call="c", secret=token) for token in tokens)
    async with calling(own) as first:
        session = await session_of(open_daemon, first)
        async with calling(other) as thief:
            await asyncio.wait_for(thief.phone.ended.wait(), _LIMIT_S)
        assert open_daemon.telephony.calls.refused["telnyx.call_taken"] == 1
        assert not first.phone.ended.is_set()
        async with calling(own) as second:
            await second.wait(lambda: figures(session)["returns"] == 1, "return")
    assert open_daemon.registry.sessions == []


async def test_a_call_does_not_come_back_in_another_format(open_daemon: Daemon) -> None:
    """The session's sound would have to change; such a socket is refused, and the call goes on waiting."""
    async with calling(dialling(open_daemon, "telnyx", call="c")) as first:
        await session_of(open_daemon, first)
        async with calling(dialling(open_daemon, "telnyx", call="c", codec="PCMA")) as second:
            await asyncio.wait_for(second.phone.ended.wait(), _LIMIT_S)
        assert not first.phone.ended.is_set()
    assert open_daemon.telephony.calls.refused["telnyx.format_changed"] == 1


async def test_logs_tell_no_secret(open_daemon: Daemon, capsys: pytest.CaptureFixture[str]) -> None:
    """Neither tokens nor numbers."""
    async with calling(dialling(open_daemon, "twilio")) as caller:
        await session_of(open_daemon, caller)
    await gone(open_daemon)
    shown = json.dumps(capsys.readouterr())
    assert "twilio" in shown
    for secret in ("ek_", "+1555", SETTINGS["twilio_auth_token"][0]):
        assert secret not in shown


# Flow control


@pytest.mark.slow
async def test_xoff_is_obeyed(open_daemon: Daemon, short_pcm: bytes) -> None:
    """Not a frame is sent until XON; then the answer goes on where it was, whole."""
    sent_at: list[float] = []
    sent = bytearray()

    def note(said: str | bytes) -> None:
        if isinstance(said, bytes):
            sent_at.append(loop.time())
            sent.extend(said)

    async with calling(dialling(open_daemon, "asterisk")) as caller:
        await session_of(open_daemon, caller)
        loop = asyncio.get_running_loop()
        caller.phone.on_message = note
        caller.say(short_pcm)
        await caller.wait(lambda: len(sent_at) >= 5, "beginning of the answer")
        await caller.phone.wire.send_messages(['{"event":"MEDIA_XOFF","channel_id":"x"}'])
        stopped_at = loop.time()
        await caller.wait(lambda: loop.time() > stopped_at + 0.7, "pause")
        assert [at for at in sent_at if at > stopped_at + 0.1] == []
        await caller.phone.wire.send_messages(['{"event":"MEDIA_XON","channel_id":"x"}'])
        await caller.hear_answer()
    answer = from_telephone(bytes(sent), caller.answer_format)
    assert match(answer, resample(samples_of(short_pcm), 24_000, 8000)).correlation > 0.95
