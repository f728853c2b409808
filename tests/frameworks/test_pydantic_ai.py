"""``pydantic-ai``: an agent's realtime session, told nothing but the base URL."""

import asyncio
from collections.abc import Callable

from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription

from bridge.daemon import Daemon
from tests.end_to_end.real_peer import Microphone
from tests.frameworks.conftest import Run
from tests.machine import scaled

_LIMIT_S = scaled(15.0)
_PAUSE = bytes(2 * 24 * 1000)


async def test_it_talks_calls_a_function_and_is_interrupted(run: Run) -> None:
    """A spoken question calls the function; speech stops an answer that plays; what is written is answered."""
    async with run("agents", "pydantic_agent", "websocket") as log:
        pass
    assert log.of("sdk.realtime_session_error") == []
    assert [call["given"] for call in log.of("sdk.tool_called")] == [{"city": "Paris"}] * 2
    items = log.of("sdk.item")
    asked = [
        ("user", "What is the weather in Paris?"),
        ("tool-call", ""),
        ("tool-return", "sunny in Paris"),
        ("assistant", "sunny in Paris."),
    ]
    assert [(item["role"], item["text"]) for item in items] == [
        *asked,
        ("user", "Please count to 30."),
        ("assistant", ", ".join(map(str, range(1, 31))) + "."),
        *asked,
        ("user-prompt", "Say good morning."),
        ("assistant", "Good morning."),
    ]
    assert [item["text"][:7] for item in items if item.get("interrupted_at_ms")] == ["1, 2, 3"]


async def test_it_follows_a_call_beside_it(run: Run, assistant: Daemon, say: Callable[[str], bytes]) -> None:
    """The agent answers a page's offer, its function is called by what is said there, and it hangs up."""
    peer = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    channel, microphone = peer.createDataChannel("oai-events"), Microphone()
    is_gone = asyncio.Event()
    channel.on("close", is_gone.set)
    peer.addTrack(microphone)
    await peer.setLocalDescription(await peer.createOffer())
    try:
        async with run("agents", "pydantic_agent", "sideband", sdp=peer.localDescription.sdp) as log:
            answer = await log.until("sdk.answer")
            await peer.setRemoteDescription(RTCSessionDescription(answer["sdp"], "answer"))
            await log.until("sdk.attached")
            await microphone.speak(say("What is the weather in Paris?") + _PAUSE)
            await log.until("sdk.hung_up")
            async with asyncio.timeout(_LIMIT_S):
                await is_gone.wait()
    finally:
        await peer.close()
    assert log.of("sdk.realtime_session_error") == []
    assert [call["given"] for call in log.of("sdk.tool_called")] == [{"city": "Paris"}]
    assert [(item["role"], item["text"]) for item in log.of("sdk.item")] == [
        ("user", "What is the weather in Paris?"),
        ("tool-call", ""),
        ("tool-return", "sunny in Paris"),
        ("assistant", "sunny in Paris."),
    ]
    assert assistant.registry.sessions == []
