"""A carrier is a package and a row of the table: one that is made up here has all that the others have."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any, ClassVar

import pytest
from starlette.requests import HTTPConnection, Request
from starlette.responses import PlainTextResponse, Response
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus
from websockets.typing import Subprotocol

from bridge.api.operation import Operation
from bridge.calls.keys import Grant
from bridge.config import Applies, Section, load, setting, settings_table
from bridge.config.fields import Text
from bridge.daemon import Daemon
from bridge.errors import Unauthorized
from bridge.telephony.carrier import TELEPHONY, Carrier, CarrierHost, CarrierSocket, HttpEndpoint
from bridge.telephony.carrier_calls import Trust
from bridge.telephony.dialect import CallStarted, CarrierEvent, CarrierFault, Dtmf, Ended, MarkPlayed, Traits
from bridge.telephony.sign_in import bearer, is_one_of, require_secrets
from bridge.telephony.table import CARRIERS
from bridge.wire.audio import G711_ULAW
from tests.end_to_end.sound import match, resample, samples_of
from tests.end_to_end.web import request
from tests.settings import SECTIONS
from tests.telephony.calling import from_telephone, gone, opened, to_telephone, until

_BRIDGE = Path(__file__).parents[2] / "bridge"
_FRAME_BYTES = G711_ULAW.size_of(20)


# What the package of a carrier would hold


class _Semaphore:
    """Words in text messages, sound in binary ones."""

    name = "semaphore"
    traits = Traits(lead_ms=1000)

    def decode_message(self, message: str | bytes) -> list[CarrierEvent]:
        """What a message means."""
        if isinstance(message, bytes):
            return [message]
        word, _, rest = message.partition(" ")
        match word:
            case "call":
                return [CallStarted(rest, G711_ULAW, {"flag": "blue"})]
            case "key":
                return [Dtmf(rest)]
            case "played":
                return [MarkPlayed(rest)]
            case "bye":
                return [Ended()]
        return [CarrierFault("unknown_message")]

    def encode_sound(self, sound: bytes) -> bytes:
        """As it is."""
        return sound

    def encode_mark(self, name: str) -> list[str | bytes]:
        """Echoed as ``played``."""
        return [f"mark {name}"]

    def encode_clear(self) -> list[str | bytes]:
        """Empties the buffer."""
        return ["clear"]

    def encode_answer(self) -> list[str | bytes]:
        """The carrier has answered already."""
        return []

    def encode_hang_up(self) -> list[str | bytes]:
        """Lowers the flag."""
        return ["bye"]

    def encode_key(self, key: str) -> list[str | bytes]:
        """There is no word for it."""
        return []


class _SemaphoreSettings(Section, frozen=True, kw_only=True):
    """What a ship shows."""

    section: ClassVar[str] = "semaphore"
    title: ClassVar[str] = "telephony: semaphore"

    semaphore_flag: Annotated[tuple[Text, ...], setting(Applies.LIVE, "what a ship has to show", is_secret=True)] = ()


class _Flagman:
    """Ends calls by another way than their connection."""

    failures = 0

    def __init__(self) -> None:
        self.ended: list[str] = []

    async def hang_up(self, call: str) -> None:
        """Ends the call."""
        self.ended.append(call)


def _row(flagman: _Flagman) -> Carrier[_SemaphoreSettings]:
    def sign_in(host: CarrierHost[_SemaphoreSettings], request: HTTPConnection) -> Trust:
        secrets = require_secrets("semaphore_flag", host.settings.semaphore_flag)
        if not is_one_of(bearer(request.headers) or "", secrets):
            raise Unauthorized("That is not the flag.", code="invalid_secret")
        return Trust(is_admitted=True)

    async def answer(host: CarrierHost[_SemaphoreSettings], request: Request) -> Response:
        return PlainTextResponse(f"hoist {len(await host.calls.list_calls(Grant()))}")

    return Carrier(
        name=_Semaphore.name,
        settings=_SemaphoreSettings,
        is_open=lambda settings: bool(settings.semaphore_flag),
        socket=CarrierSocket(
            what="flags",
            opened_by="the flag that is shown",
            sign_in=sign_in,
            checks=lambda host, request: "the flag",
            new_dialect=lambda request: _Semaphore(),
            subprotocols=("flags",),
        ),
        endpoints=(
            HttpEndpoint(
                operation=Operation(
                    method="post", path=f"{TELEPHONY}/semaphore", summary="A ship calls.", response="text/plain"
                ),
                handle=answer,
            ),
        ),
        new_hang_up=lambda settings: flagman,
    )


# The made-up carrier


@asynccontextmanager
async def _serving(flagman: _Flagman) -> AsyncIterator[Daemon]:
    environ = {"BRIDGE_PORT": "0", "BRIDGE_DRAIN_S": "0", "BRIDGE_ENGINE": "parrot", "BRIDGE_MAX_LOOP_LAG_MS": "0"}
    environ["BRIDGE_SEMAPHORE_FLAG"] = "half-mast"
    settings = load({}, environ, None, (*SECTIONS, _SemaphoreSettings))
    async with Daemon(settings, carriers=(*CARRIERS, _row(flagman))) as daemon:
        yield daemon


@asynccontextmanager
async def _socket(daemon: Daemon, flag: str) -> AsyncIterator[ClientConnection]:
    url = f"{daemon.url.replace('http', 'ws', 1)}v1/telephony/semaphore"
    headers = {"Authorization": f"Bearer {flag}"}
    async with connect(
        url,
        additional_headers=headers,
        subprotocols=[Subprotocol("flags")],
        compression=None,
        proxy=None,
    ) as connection:
        yield connection


async def _heard(connection: ClientConnection, pcm: bytes) -> bytes:
    """The answer to what is said, as long as that; every mark is echoed."""
    said = to_telephone(pcm, G711_ULAW)
    for at in range(0, len(said), _FRAME_BYTES):
        await connection.send(said[at : at + _FRAME_BYTES])
    heard = bytearray()
    while len(heard) < len(said) // 2:
        message = await connection.recv()
        if isinstance(message, bytes):
            heard += message
        elif message.startswith("mark "):
            await connection.send(message.replace("mark", "played"))
    return bytes(heard)


async def test_a_call_of_a_made_up_carrier(short_pcm: bytes) -> None:
    """It signs in, speaks, is answered, is listed with what it brought, and is hung up by its own way."""
    flagman = _Flagman()
    async with _serving(flagman) as daemon:
        async with _socket(daemon, "half-mast") as connection:
            assert connection.subprotocol == "flags"
            await connection.send("call ship-1")
            session = await opened(daemon)
            heard = from_telephone(await _heard(connection, short_pcm), G711_ULAW)
            spoken = resample(samples_of(short_pcm), 24_000, 8_000)[: len(heard)]
            assert match(heard, spoken).correlation > 0.9
            [call] = (await request("GET", f"{daemon.url}v1/calls")).json["data"]
            assert (call["transport"], call["metadata"]) == (
                "semaphore", {"flag": "blue", "carrier_call_id": "ship-1"}
            )  # fmt: skip
            told = (await request("GET", f"{daemon.url}v1/telephony")).json
            assert told["endpoints"]["semaphore"] == {"is_open": True, "calls": 1, "waiting": 0}
            await request("DELETE", f"{daemon.url}v1/realtime/calls/{session.info.id}")
            messages = [message async for message in connection]
        assert messages[-1] == "bye"
        await gone(daemon)
        await until(daemon, lambda: flagman.ended == ["ship-1"], "hang-up")


async def test_endpoints_of_a_made_up_carrier() -> None:
    """A wrong secret is refused and counted, its HTTP endpoint answers, and the API's description has both."""
    async with _serving(_Flagman()) as daemon:
        with pytest.raises(InvalidStatus) as refused:
            async with _socket(daemon, "full-mast"):
                pass
        assert refused.value.response.status_code == 401
        assert (await request("POST", f"{daemon.url}v1/telephony/semaphore")).body == b"hoist 0"
        assert (await request("GET", f"{daemon.url}v1/telephony")).json["refused"] == {"semaphore.invalid_secret": 1}
        described = (await request("GET", f"{daemon.url}openapi.json")).json["paths"]["/v1/telephony/semaphore"]
        assert {method: operation["summary"] for method, operation in described.items()} == {
            "post": "A ship calls.", "get": "A WebSocket for flags. It is opened by the flag that is shown."
        }  # fmt: skip


def test_settings_of_a_made_up_carrier(tmp_path: Path) -> None:
    """They have a flag, a variable, a table in the file and one in the reference, and are never shown."""
    path = tmp_path / "bridge.toml"
    path.write_text('[semaphore]\nflag = ["half-mast"]\n')
    config = load({}, {}, str(path), [_SemaphoreSettings])
    assert config.of(_SemaphoreSettings).semaphore_flag == ("half-mast",)
    assert "half-mast" not in repr(config)
    assert "| `--semaphore-flag` | `BRIDGE_SEMAPHORE_FLAG` | unset | live | " in settings_table([_SemaphoreSettings])


# The carriers that there are


_PACKAGES = tuple(f"telephony/{carrier.name}/" for carrier in CARRIERS)
_SIMULATORS = "client/"
_NAMES_ALL = ("telephony/table.py",)


@pytest.mark.parametrize("name", [carrier.name for carrier in CARRIERS])
def test_no_other_file_names_a_carrier(name: str) -> None:
    """Neither in code nor in words: the packages do, the table, and the client that plays carriers."""
    naming = []
    for path in sorted(_BRIDGE.rglob("*.*")):
        place = path.relative_to(_BRIDGE).as_posix()
        if path.suffix in (".py", ".js", ".html", ".css") and re.search(name, path.read_text(), re.IGNORECASE):
            naming.append(place)
    assert f"telephony/{name}/dialect.py" in naming
    assert [
        place for place in naming if not place.startswith((*_PACKAGES, _SIMULATORS)) and place not in _NAMES_ALL
    ] == []


@pytest.mark.parametrize("carrier", CARRIERS, ids=lambda carrier: carrier.name)
def test_the_settings_of_a_carrier_are_in_its_package(carrier: Carrier[Any]) -> None:
    """They bear its name, and are found there by whoever reads settings."""
    section = carrier.settings
    assert section in SECTIONS
    assert section.__module__ == f"bridge.telephony.{carrier.name}.settings"
    assert section.section == carrier.name
    assert all(name.startswith(f"{carrier.name}_") for name in section.__struct_fields__)


def test_names_are_unique() -> None:
    """Paths, counts and calls are kept by a carrier's name."""
    names = [carrier.name for carrier in CARRIERS]
    assert len(set(names)) == len(names)
