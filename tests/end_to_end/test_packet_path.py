"""The way of a packet, as docs/internals tell it, seen on a running bridge."""

import pytest

from tools.packet_path import PAGE, blocks, traced
from tools.reference import fill


@pytest.fixture(scope="module", params=[True], ids=["uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    """The loop that the daemon runs on; another one would take the same way for twice the time."""
    return "asyncio", {"use_uvloop": request.param, "debug": False}


@pytest.mark.slow
@pytest.mark.timeout(120)
async def test_the_page_has_the_way_of_a_packet() -> None:
    """The page is what a trace of a call draws now: ``make reference`` draws it anew."""
    text = PAGE.read_text()
    assert fill(text, blocks(await traced())) == text
