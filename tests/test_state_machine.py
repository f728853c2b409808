"""State machines: one way to change, which follows the table, logs and wakes whoever waits."""

import asyncio
from enum import StrEnum

import pytest
from structlog.testing import capture_logs

from bridge.log import get_logger
from bridge.state_machine import StateMachine
from tests.machine import scaled


class Light(StrEnum):
    RED = "red"
    GREEN = "green"
    DARK = "dark"


_WAYS = {
    Light.RED: frozenset({Light.GREEN, Light.DARK}),
    Light.GREEN: frozenset({Light.RED, Light.DARK}),
    Light.DARK: frozenset[Light](),
}


def _light() -> StateMachine[Light]:
    return StateMachine("light", Light.RED, _WAYS, log=get_logger("test").bind(call_id="rtc_1"), event="light.state")


@pytest.mark.usefixtures("debug_log")
def test_a_change_is_logged_with_where_it_came_from() -> None:
    """At debug, under the machine's event, with what the logger is bound to."""
    with capture_logs() as lines:
        _light().enter(Light.GREEN)
    [line] = lines
    assert line == {
        "event": "light.state", "log_level": "debug", "thing": "light", "before": "red", "after": "green",
        "call_id": "rtc_1", "room": "test",
    }  # fmt: skip


def test_what_the_table_does_not_have_is_a_fault() -> None:
    """The state stays as it is, and nothing is logged."""
    light = _light()
    light.enter(Light.DARK)
    with capture_logs() as lines, pytest.raises(RuntimeError, match="cannot become red while it is dark"):
        light.enter(Light.RED)
    assert light.state is Light.DARK
    assert not light.may_enter(Light.GREEN)
    assert lines == []


async def test_whoever_waits_for_a_state_is_woken_by_it_alone() -> None:
    """A wait ends in the state that it is for, at once if that is the present one."""
    light = _light()
    assert await light.until(Light.RED) is Light.RED
    async with asyncio.timeout(scaled(5)), asyncio.TaskGroup() as group:
        waiting = group.create_task(light.until(Light.DARK))
        await asyncio.sleep(0)
        light.enter(Light.GREEN)
        await asyncio.sleep(0)
        assert not waiting.done()
        light.enter(Light.DARK)
    assert waiting.result() is Light.DARK
