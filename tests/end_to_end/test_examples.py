"""The examples, as they are in the folder and in the README."""

import asyncio
import base64
import sys
import wave
from pathlib import Path
from typing import cast

import pytest

from bridge.api.socket import SocketSink
from bridge.daemon import Daemon
from tests.end_to_end.real_peer import RealPeer
from tests.end_to_end.web import open_socket
from tests.machine import scaled
from tests.processes import ran, started
from tests.sdk_js.chromium import opened_page, page_server
from tests.telephony.calling import until

pytestmark = pytest.mark.slow

_ROOT = Path(__file__).parents[2]
_FOLDER = _ROOT / "examples" / "listening"
_NO_TURNS = {"type": "session.update", "session": {"type": "realtime", "audio": {"input": {"turn_detection": None}}}}
_PIECE_BYTES = 48 * 100
_LIMIT_S = scaled(15.0)


async def test_python_listener(daemon: Daemon, tmp_path: Path, speech_pcm: bytes) -> None:
    """It writes what the caller says, whole though its line breaks in the middle, and ends with the call."""
    path = tmp_path / "caller.wav"
    async with open_socket(daemon.url, "model=any") as owner:
        await owner.send(_NO_TURNS)
        await owner.until("session.updated")
        session_id = owner.events[0]["session"]["id"]
        server = daemon.url.replace("http", "ws", 1).rstrip("/")
        command = (sys.executable, str(_FOLDER / "listen.py"), server, session_id, str(path))
        async with started(*command) as process, asyncio.timeout(_LIMIT_S):
            assert process.stdout is not None
            printed = [(await process.stdout.readline()).decode().strip()]
            session = daemon.registry.find(session_id)
            for number, at in enumerate(range(0, len(speech_pcm), _PIECE_BYTES)):
                audio = base64.b64encode(speech_pcm[at : at + _PIECE_BYTES]).decode()
                await owner.send({"type": "input_audio_buffer.append", "audio": audio})
                if number == 20:
                    await owner.send({"type": "input_audio_buffer.clear"})
                    await owner.until("input_audio_buffer.cleared")
                    cast(SocketSink, session.audience.hub.listeners[-1]._sink)._transport.abort()
            await owner.send({"type": "input_audio_buffer.clear"})
            await owner.until("input_audio_buffer.cleared", number=2)
            printed += [(await process.stdout.readline()).decode().strip() for _ in range(2)]
            session.close("hangup")
            output, complaints = await process.communicate()
    assert process.returncode == 0, complaints.decode()
    assert complaints.decode().startswith("line broke:")
    assert [*printed, *output.decode().split()] == [
        "session.created", "input_audio_buffer.cleared", "input_audio_buffer.cleared", "bridge.call.closed"
    ]  # fmt: skip
    with wave.open(str(path)) as sound:
        assert sound.getframerate() == 24_000
        assert sound.readframes(sound.getnframes()) == speech_pcm


async def test_python_listener_says_what_it_takes() -> None:
    """Started without the call's id, it tells how it is used and where the id comes from."""
    code, _, complaint = await ran(sys.executable, str(_FOLDER / "listen.py"), "ws://127.0.0.1:8080")
    assert code == 1
    assert complaint.startswith("usage: python ")
    assert "SERVER CALL_ID FILE" in complaint
    assert "v1/calls" in complaint


@pytest.mark.browser
@pytest.mark.timeout(60)
async def test_page_that_listens(daemon: Daemon, short_pcm: bytes) -> None:
    """It plays both sides, each as long as it is, and shows the events until the call is over."""
    with page_server(_FOLDER) as port:
        async with RealPeer(daemon.url) as peer, opened_page(f"http://127.0.0.1:{port}/listen.html") as page:
            await page.fill("input[name=server]", daemon.url.replace("http", "ws", 1).rstrip("/"))
            await page.fill("input[name=call]", peer.call_id)
            await page.click("button")
            await page.wait_for_selector("li:has-text('session.created')")
            await peer.speak(short_pcm)
            await peer.until("response.done")
            await page.wait_for_selector("li:has-text('response.done')")
            caller, answer = [float(await page.inner_text(f"#{side}")) for side in ("input", "output")]
            await peer.hang_up()
            await page.wait_for_selector("li:has-text('closed: 1000')")
    assert caller > len(short_pcm) / 48_000 - 0.5
    assert 1 < answer < 4


@pytest.mark.browser
@pytest.mark.timeout(60)
@pytest.mark.parametrize("compression", ["opus", "mp3"])
async def test_page_that_listens_compressed(daemon: Daemon, short_pcm: bytes, compression: str) -> None:
    """The browser's own decoders play both sides, each as long as it is: Opus by WebCodecs, MP3 by MediaSource."""
    with page_server(_FOLDER) as port:
        async with RealPeer(daemon.url) as peer, opened_page(f"http://127.0.0.1:{port}/compressed.html") as page:
            await page.fill("input[name=server]", daemon.url.replace("http", "ws", 1).rstrip("/"))
            await page.fill("input[name=call]", peer.call_id)
            await page.select_option("select", compression)
            await page.click("button")
            session = daemon.registry.find(peer.call_id)
            await until(
                daemon,
                lambda: any(listener.audio == compression for listener in session.audience.hub.listeners),
                "listener",
            )
            await peer.speak(short_pcm)
            await peer.until("response.done")
            at_least = "Number(document.querySelector('#{}').value) > {}"
            await page.wait_for_function(at_least.format("input", len(short_pcm) / 48_000 - 0.5))
            await page.wait_for_function(at_least.format("output", 1))
            await peer.hang_up()
            await page.wait_for_selector("p:has-text('closed: 1000')")
            answer = float(await page.inner_text("#output"))
    assert 1 < answer < 4


def _snippet(language: str, beginning: str, daemon: Daemon) -> str:
    """The README's code that begins so, with the daemon's address in place of the usual one."""
    code = (_ROOT / "README.md").read_text().split(f"```{language}\n{beginning}", 1)[1].split("```\n", 1)[0]
    assert "127.0.0.1:8080" in code
    return f"{beginning}{code}".replace("127.0.0.1:8080", f"127.0.0.1:{daemon.port}")


async def test_sdk_of_the_readme(daemon: Daemon) -> None:
    """The stock SDK finds the bridge by the address alone, and has a session at once."""
    code = _snippet("python", "client = openai.AsyncOpenAI(", daemon).replace(
        ": ...", ":\n    print((await connection.recv()).type)"
    )
    lines = "\n    ".join(code.splitlines())
    script = f"import asyncio, openai\n\n\nasync def main():\n    {lines}\n\n\nasyncio.run(main())\n"
    code_and_output = await ran(sys.executable, "-c", script)
    assert code_and_output == (0, "session.created\n", "")


async def test_listener_of_the_readme(daemon: Daemon, short_pcm: bytes) -> None:
    """It hears what the caller says, and ends with the call."""
    async with RealPeer(daemon.url) as peer:
        code = _snippet("python", "import asyncio, base64, json, websockets", daemon).replace("rtc_…", peer.call_id)
        code = code.replace('(event["audio"])', '(event["audio"])\n                print(len(pcm), flush=True)')
        async with started(sys.executable, "-c", code) as process, asyncio.timeout(_LIMIT_S):
            assert process.stdout is not None
            await peer.speak(short_pcm)
            assert int(await process.stdout.readline()) > 0
            await peer.hang_up()
            _, complaints = await process.communicate()
    assert (process.returncode, complaints) == (0, b"")


@pytest.mark.browser
@pytest.mark.timeout(60)
async def test_browser_of_the_readme(daemon: Daemon) -> None:
    """A page that does what the README says calls the bridge, speaks, and is answered by events and sound."""
    code = _snippet("js", "const peer = new RTCPeerConnection();", daemon)
    script = f"""async () => {{
        const key = "any", kinds = [];
        document.body.append(Object.assign(document.createElement("audio"), {{ autoplay: true }}));
        {code}
        await new Promise((resolve) => {{
            events.onmessage = ({{ data }}) => {{
                kinds.push(JSON.parse(data).type);
                if (kinds.at(-1) === "response.done") resolve();
            }};
        }});
        await new Promise((resolve) => {{ document.querySelector("audio").ontimeupdate = resolve; }});
        peer.close();
        return kinds;
    }}"""
    with page_server(_FOLDER) as port:
        async with opened_page(f"http://127.0.0.1:{port}/listen.html") as page:
            kinds = await page.evaluate(script)
    assert "input_audio_buffer.speech_started" in kinds
    assert "output_audio_buffer.started" in kinds


def test_examples_are_short() -> None:
    """About thirty lines of code each, and fifty for two kinds of players."""
    for path in _FOLDER.iterdir():
        lines = [line for line in path.read_text().splitlines() if line.strip()]
        assert len(lines) <= (52 if path.name == "compressed.html" else 36), path.name
