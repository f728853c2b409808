"""How many words a network that holds packets back costs: ``python -m benchmarks.words [--quick]``.

Sentences are spoken by the engine's voice, encoded as a browser would and sent over a simulated network that now and
then holds everything back for half a second and then delivers it at once, as Wi-Fi does. What the bridge's receiver
gives out is recognised by the engine's own ears. One JSON line a case: words spoken, words wrong (by edit distance),
and by how much the stream was longer than what was spoken. Needs the extra ``local``.
"""

import argparse
import json
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np
from tqdm import tqdm

from benchmarks.kit.network import hold_back
from bridge.engine.voice import Voice
from bridge.engine.whisper import RATE_HZ as HEARING_HZ
from bridge.engine.whisper import Whisper
from bridge.media.inbound import InboundAudio
from bridge.media.opus import new_decoder, new_encoder
from bridge.media.resample import Resampler
from bridge.media.rtp import pack_rtp

__all__ = ["SENTENCES", "Case", "Ears", "Figures", "Measurement", "count", "main", "measure", "misheard"]

_HZ = 24_000
_OPUS = 111
_FRAME_BYTES = 2 * _HZ // 50
_POLL_S = 0.020
_PAUSE_S = 0.4

SENTENCES = (
    "The train to the coast leaves from the last platform early tomorrow morning before breakfast.",
    "Could you please tell me how much a return ticket for two adults would cost?",
    "My order was sent on Monday, and the parcel has still not arrived at my house.",
    "I would like to move my appointment with the doctor from Tuesday to Friday afternoon.",
    "She put the blue cup on the kitchen table and forgot to close the window.",
    "When the rain had stopped we walked along the river until it became dark.",
    "The engineer explained that the bridge was built more than a hundred years ago.",
    "Please send the invoice to my office address and a copy to my accountant.",
    "Nobody knew why the old man sold his house and went to live in Spain.",
    "We need three boxes of paper, two printers and a new lamp for the office.",
    "The children were playing in the garden while their parents talked about the holidays.",
    "If the weather is good on Sunday we could visit the castle on the hill.",
    "He has worked for the same company since he finished school in the north.",
    "Turn left at the second traffic light and you will see the hotel in front of you.",
    "The price of bread has gone up again and many people are worried about it.",
    "I forgot my password, and the letter with the new one never came to me.",
    "Her brother plays the piano every evening, and the neighbours like to listen to him.",
    "The meeting was short because most of the questions had been answered the day before.",
    "Take one of these tablets with a glass of water after breakfast and before you sleep.",
    "A small boat crossed the lake slowly and stopped near the wooden house on the shore.",
    "They decided to paint the front door green, although the rest of the street is white.",
    "My phone fell into the water last week, so I have to buy another one today.",
)


@dataclass(frozen=True, slots=True)
class Case:
    """One network."""

    name: str
    holds_back: bool
    noise_db: float | None = None
    """White noise on the line, RMS below full scale."""


@dataclass(frozen=True, slots=True)
class Figures:
    """What became of the words."""

    case: str
    words: int
    wrong: int
    longer_ms: int
    """By how much all that was heard is longer than what was spoken."""


CASES = (
    Case("nothing is held back", holds_back=False),
    Case("500 ms held back", holds_back=True),
    Case("nothing is held back, noise", holds_back=False, noise_db=-40),
    Case("500 ms held back, noise", holds_back=True, noise_db=-40),
)


class Ears:
    """The engine's recogniser, for PCM16 24 kHz mono."""

    def __init__(self) -> None:
        self._whisper = Whisper()

    def words_in(self, pcm: bytes) -> str:
        """What is said in it, up to 30 s."""
        resampler = Resampler(_HZ, HEARING_HZ)
        samples = np.frombuffer(resampler.push(pcm) + resampler.flush(), "<i2") * np.float32(1 / 32_768)
        return self._whisper.recognise(samples).text


class Measurement:
    """Voice and ears, loaded once."""

    def __init__(self, sentences: tuple[str, ...], *, new_inbound: Callable[..., InboundAudio] = InboundAudio) -> None:
        self._sentences = sentences
        self._new_inbound = new_inbound
        self._voice, self._ears = Voice(seed=0), Ears()
        self._spoken: dict[str, bytes] = {}

    def measure(self, case: Case, *, seeds: int = 2) -> Figures:
        """All sentences, as one call, each of ``seeds`` times over another such network."""
        words = wrong = longer_ms = 0
        for seed in range(seeds):
            chance = np.random.default_rng(seed)
            for sentence in self._sentences:
                pcm = self._speech(sentence)
                if case.noise_db is not None:
                    noise = chance.normal(0, 32768 * 10 ** (case.noise_db / 20), len(pcm) // 2)
                    noisy = np.frombuffer(pcm, "<i2") + noise
                    pcm = np.clip(noisy, -32768, 32767).astype("<i2").tobytes()
                heard = self._hear(pcm, chance if case.holds_back else None)
                longer_ms += (len(heard) - len(pcm)) * 1000 // (2 * _HZ)
                words += count(sentence)
                wrong += misheard(sentence, self._ears.words_in(heard))
        return Figures(case=case.name, words=words, wrong=wrong, longer_ms=longer_ms)

    def _speech(self, sentence: str) -> bytes:
        if sentence not in self._spoken:
            pause = bytes(2 * int(_HZ * _PAUSE_S))
            pcm = pause + self._voice.say(sentence) + pause
            self._spoken[sentence] = pcm[: len(pcm) // _FRAME_BYTES * _FRAME_BYTES]
        return self._spoken[sentence]

    def _hear(self, pcm: bytes, chance: np.random.Generator | None) -> bytes:
        encoder = new_encoder(_HZ)
        inbound = self._new_inbound(new_decoder(_HZ), payload_type=_OPUS, rate_hz=_HZ)
        frames = len(pcm) // _FRAME_BYTES
        sent = np.arange(frames) * 0.020
        arrivals = sent if chance is None else hold_back(sent, chance)
        heard, polled = b"", 0.0
        for number, arrival in enumerate(arrivals):
            while polled < arrival:
                heard += inbound.poll(polled)
                polled += _POLL_S
            payload = encoder.encode(pcm[number * _FRAME_BYTES : (number + 1) * _FRAME_BYTES])
            packet = pack_rtp(payload, payload_type=_OPUS, sequence=number, rtp_timestamp=number * 960, ssrc=1)
            heard += inbound.receive_rtp(packet, float(arrival))
        return heard


def measure(case: Case, *, sentences: tuple[str, ...] = SENTENCES, seeds: int = 2) -> Figures:
    """One case, with models of its own."""
    return Measurement(sentences).measure(case, seeds=seeds)


def count(sentence: str) -> int:
    """How many words it has."""
    return len(_words(sentence))


def misheard(said: str, heard: str) -> int:
    """How many words were replaced, left out and added, at least (Levenshtein)."""
    return _distance(_words(said), _words(heard))


def _words(text: str) -> list[str]:
    return re.findall(r"[a-z0-9']+", text.lower())


def _distance(said: list[str], heard: list[str]) -> int:
    row = list(range(len(heard) + 1))
    for i, word in enumerate(said, 1):
        before, row[0] = row[0], i
        for j, other in enumerate(heard, 1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (word != other))
    return row[-1]


def main() -> None:
    """Measures and prints a JSON line for each case."""
    parser = argparse.ArgumentParser(description="How many words a network that holds packets back costs.")
    parser.add_argument("--quick", action="store_true", help="three sentences, once")
    arguments = parser.parse_args()
    sentences = SENTENCES[:3] if arguments.quick else SENTENCES
    measurement = Measurement(sentences)
    for case in tqdm(CASES, desc="networks", unit="case", disable=None):
        print(json.dumps(asdict(measurement.measure(case, seeds=1 if arguments.quick else 2))))


if __name__ == "__main__":
    main()
