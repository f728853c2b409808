"""Smart Turn itself, whose file is a part of ``pipecat-ai``, as the engine's model of turns."""

from collections.abc import Callable
from pathlib import Path

import pytest

from bridge.engine.turn_model import TurnModel
from tests.frameworks.conftest import python_of

pytestmark = pytest.mark.frameworks


async def test_it_is_loaded_and_judges(say: Callable[[str], bytes]) -> None:
    """A whole question is complete, and its first words are not."""
    [path] = Path(python_of("pipecat")).parents[1].rglob("smart-turn-v3*cpu.onnx")
    async with TurnModel(str(path)) as model:
        question = say("What is the weather in Paris?")
        assert await model.judge(question) > 0.5
        assert await model.judge(question[: len(question) * 6 // 20 * 2]) < 0.5
