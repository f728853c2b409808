"""Values of labels are known beforehand."""

import ast
import re
from pathlib import Path

import pytest

from bridge.errors import PeerError, UpstreamError
from bridge.observe.labels import CLOSE_REASONS, OTHER, bounded, transport_labels
from bridge.wire.stats import Transport
from tools.sources import error_codes

_PACKAGE = Path(__file__).parents[2] / "bridge"
_ENDINGS = ("close", "hang_up", "_close", "leg_closed", "lose")


def _reasons_in(path: Path) -> set[str]:
    """The words with which this module ends calls."""
    calls = (node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call))
    return {
        call.args[0].value
        for call in calls
        if isinstance(call.func, ast.Attribute) and call.func.attr in _ENDINGS and call.args
        if isinstance(call.args[0], ast.Constant) and isinstance(call.args[0].value, str)
    }


def test_every_reason_that_the_bridge_gives_is_known() -> None:
    """A new way to end a call is counted under its own name."""
    rooms = ("api", "calls", "session", "telephony", "webrtc")
    given = set().union(*(_reasons_in(path) for room in rooms for path in (_PACKAGE / room).rglob("*.py")))
    assert len(given) > 8
    assert given - CLOSE_REASONS == set()


def test_every_error_that_ends_calls_is_known() -> None:
    """What went wrong on either side of a call, in the bridge's own words; of some a part depends on where it arose."""
    of_calls = {error.code for error in error_codes() if issubclass(error.kind, PeerError | UpstreamError)}
    patterns = {code: re.compile(re.escape(code).replace("…", "[a-z_]+")) for code in of_calls}
    unknown = {code for code, pattern in patterns.items() if not any(map(pattern.fullmatch, CLOSE_REASONS))}
    assert unknown == set()


@pytest.mark.parametrize(
    ("transport", "labels"),
    [("webrtc", ("webrtc", "")), ("websocket", ("websocket", "")), ("telnyx", ("telephone", "telnyx"))],
)
def test_a_telephone_call_has_a_carrier(transport: Transport, labels: tuple[str, str]) -> None:
    """What came another way has none."""
    assert transport_labels(transport) == labels


def test_what_is_not_known_is_other() -> None:
    """Whatever it is, it makes no series of its own."""
    assert bounded("x" * 1000, CLOSE_REASONS) == OTHER
    assert bounded("hangup", CLOSE_REASONS) == "hangup"
