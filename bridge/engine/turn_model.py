"""A model that says by the sound whether a speaker has finished: an ONNX file in the form of Smart Turn (version 3).

Its input ``input_features`` is Whisper's log-mel spectrogram of the last 8 s, (1, 80, 800), with silence before a
shorter turn; its output is the probability that the turn is complete.
"""

import asyncio
import functools
from pathlib import Path
from typing import Any

import numpy as np

from bridge.engine.mel import FRAMES_PER_S, RATE_HZ, log_mel
from bridge.engine.worker import Worker
from bridge.errors import ConfigError
from bridge.media.resample import Resampler
from bridge.wire.audio import SESSION_HZ

__all__ = ["TurnModel"]

_WINDOW_S = 8
_INPUT = "input_features"
_SHAPE = (80, _WINDOW_S * FRAMES_PER_S)
_FULL_SCALE = np.float32(1 / 32_768)
_MAX_WAITING = 200  # of all sessions together
_PCM_BYTES = 2 * SESSION_HZ * _WINDOW_S


class TurnModel:
    """One loaded model, shared by all conversations; ``async with`` loads it, and owns its thread."""

    def __init__(self, path: str) -> None:
        self._path = Path(path)
        self._worker = Worker("turns", limit=_MAX_WAITING)
        self._session: Any = None

    async def __aenter__(self) -> "TurnModel":
        try:
            await self._worker.submit(self._load)
        except BaseException:
            await self._worker.aclose()
            raise
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self._worker.aclose()

    def judge(self, pcm: bytes) -> "asyncio.Future[float]":
        """The probability that the turn in ``pcm``, PCM16 24 kHz mono, is complete.

        Raises ``OverLimit`` if too many wait.
        """
        return self._worker.submit(functools.partial(self._judge, pcm[-_PCM_BYTES:]))

    def _load(self) -> None:
        try:
            import onnxruntime
            from onnxruntime.capi import onnxruntime_pybind11_state as faults
        except ImportError:
            raise ConfigError(
                "engine_turn_model: needs onnxruntime: pip install '.[local]'", param="engine_turn_model"
            ) from None
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        try:
            session = onnxruntime.InferenceSession(str(self._path), options, providers=["CPUExecutionProvider"])
            shapes = {one.name: one.shape for one in session.get_inputs()}
        except (
            faults.Fail,
            faults.InvalidArgument,
            faults.InvalidGraph,
            faults.InvalidProtobuf,
            faults.NoSuchFile,
            faults.NotImplemented,
        ) as error:
            raise ConfigError(
                f"engine_turn_model: {self._path} is not an ONNX model: {error}", param="engine_turn_model"
            ) from None
        if list(shapes) != [_INPUT] or list(shapes[_INPUT][1:]) != list(_SHAPE):
            raise ConfigError(
                f"engine_turn_model: {self._path} has inputs {shapes}, not {_INPUT} of (1, 80, 800)",
                param="engine_turn_model",
            )
        self._session = session
        self._judge(bytes(2 * SESSION_HZ))

    def _judge(self, pcm: bytes) -> float:
        resampler = Resampler(SESSION_HZ, RATE_HZ)
        heard = np.frombuffer(resampler.push(pcm) + resampler.flush(), "<i2") * _FULL_SCALE
        samples = np.zeros(_WINDOW_S * RATE_HZ, np.float32)
        heard = heard[-len(samples) :]
        samples[len(samples) - len(heard) :] = heard
        samples = (samples - samples.mean()) / np.sqrt(samples.var() + 1e-7)
        features = log_mel(samples.astype(np.float32), frames=_SHAPE[1])
        output = self._session.run(None, {_INPUT: features[np.newaxis]})[0]
        return float(np.ravel(output)[0])
