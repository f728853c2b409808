"""A model that says whether a turn is complete: an ONNX file in Smart Turn's form, which is made here."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from bridge.daemon import Daemon
from bridge.engine.interruption import TurnTaking
from bridge.engine.parrot import Parrot
from bridge.engine.service import Engine
from bridge.engine.turn_model import TurnModel
from bridge.errors import ConfigError
from tests.engine.talk import MS, Talk, silence
from tests.fakes import CONTEXT
from tests.machine import scaled
from tests.settings import config_for_tests

_LIMIT_S = scaled(20.0)
_TONE = (np.sin(np.arange(24_000 * 2) * 2 * np.pi * 3000 / 24_000) * 8000).astype("<i2").tobytes()


def _write_model(path: Path, *, frames: int = 800) -> str:
    """A small model of Smart Turn's form: sure of an end if the last second has low tones, unsure if high ones."""
    weights = np.zeros((80, frames), np.float32)
    weights[:40, -100:], weights[40:, -100:] = 1 / 400, -1 / 400
    nodes = [
        helper.make_node("Mul", ["input_features", "weights"], ["weighted"]),
        helper.make_node("ReduceSum", ["weighted", "axes"], ["sum"], keepdims=0),
        helper.make_node("Unsqueeze", ["sum", "last"], ["column"]),
        helper.make_node("Sigmoid", ["column"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "turns",
        [helper.make_tensor_value_info("input_features", TensorProto.FLOAT, ["batch", 80, frames])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 1])],
        [
            helper.make_tensor("weights", TensorProto.FLOAT, weights.shape, weights.ravel().tolist()),
            helper.make_tensor("axes", TensorProto.INT64, [2], [1, 2]),
            helper.make_tensor("last", TensorProto.INT64, [1], [1]),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, str(path))
    return str(path)


async def test_the_last_eight_seconds_are_judged(tmp_path: Path, speech_pcm: bytes) -> None:
    """Of a longer turn the end counts; the probability is the model's."""
    async with TurnModel(_write_model(tmp_path / "turns.onnx")) as model:
        speech = speech_pcm[: 2200 * MS]
        low, high = await model.judge(speech), await model.judge(_TONE)
        assert 0.5 < low <= 1.0
        assert 0.0 <= high < 0.5
        assert await model.judge(bytes(9000 * MS) + _TONE) == pytest.approx(await model.judge(bytes(6000 * MS) + _TONE))


async def _ended_after_ms(model: TurnModel, speech: bytes) -> int:
    """How much silence ends a turn of ``semantic_vad``, when the sound comes no faster than it is judged."""
    talk = Talk()
    talk.engine = Engine(Parrot(), CONTEXT, taking=TurnTaking(model=model))
    talk.engine.start(talk.said, talk.said.state)
    talk.send("session.update", session={"audio": {"input": {"turn_detection": {"type": "semantic_vad"}}}})
    talk.speak(speech)
    silent_ms = 0
    while not talk.said.of_type("input_audio_buffer.speech_stopped"):
        talk.speak(silence(100))
        silent_ms += 100
        await model.judge(b"")  # behind whatever was asked before it
    await talk.engine.aclose()
    return silent_ms


async def test_it_decides_how_long_a_pause_may_be(tmp_path: Path, speech_pcm: bytes) -> None:
    """A turn that it takes for complete ends after 0.6 s, another one after 4 s; the engine needs no ears for that."""
    async with TurnModel(_write_model(tmp_path / "turns.onnx")) as sure, asyncio.timeout(_LIMIT_S):
        speech = speech_pcm[: 1800 * MS]
        assert await _ended_after_ms(sure, speech) <= 1300
    inverse = onnx.load(str(tmp_path / "turns.onnx"))
    inverse.graph.initializer[0].float_data[:] = [-one for one in inverse.graph.initializer[0].float_data]
    onnx.save(inverse, str(tmp_path / "unsure.onnx"))
    async with TurnModel(str(tmp_path / "unsure.onnx")) as unsure, asyncio.timeout(_LIMIT_S):
        assert await _ended_after_ms(unsure, speech) >= 3900


@pytest.mark.parametrize(
    ("write", "words"),
    [
        (lambda path: path.write_bytes(b"no model"), "is not an ONNX model"),
        (lambda path: None, "is not an ONNX model"),
        (lambda path: _write_model(path, frames=3000), "not input_features of"),
    ],
)
async def test_what_is_no_such_model_is_refused_at_the_start(
    tmp_path: Path, write: Callable[[Path], object], words: str
) -> None:
    """By an error that names the setting."""
    path = tmp_path / "turns.onnx"
    write(path)
    with pytest.raises(ConfigError, match=words) as caught:
        async with TurnModel(str(path)):
            pass
    assert caught.value.param == "engine_turn_model"
    with pytest.raises(ConfigError, match=words):
        async with Daemon(config_for_tests(engine_turn_model=str(path))):
            pass
