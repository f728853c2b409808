"""What loss and jitter do to speech: ``python -m benchmarks.loss [--quick] [--json FILE] [--png FILE]``.

Real speech is encoded as a browser would (Opus, 32 kbit/s, 20 ms, in-band FEC by the loss that RTCP reports) and sent
over a simulated network. The bridge's receiver and stock aiortc's are fed with the same packets at the same times, and
asked every 20 ms for what time makes due, as the daemon's clock does. For
each: how much of the sound that was sent came out, the longest hole in it, how long after it was spoken (p50, p99), how
much of it can be understood (STOI, 0 to 1) and how good it is to the ear (PESQ, wide band, 1 to 4.6; where that is
installed). aiortc's frames are placed where their timestamps say, with silence for what is missing, which is better
than what its track gives out.
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from pystoi import stoi
from tqdm import tqdm

from benchmarks.kit.network import losses
from benchmarks.kit.output import COLOURS, new_picture
from benchmarks.kit.sound import speech
from benchmarks.receivers import OPUS, POLL_S, RATE_HZ, AiortcReceiver, BridgeReceiver, Piece, Receiver, feed
from bridge.media.opus import new_encoder
from bridge.media.resample import Resampler
from bridge.media.rtp import pack_rtp

if TYPE_CHECKING:
    from matplotlib.axes import Axes

try:
    from pesq import pesq
except ImportError:  # it comes as source, and not everyone has a compiler
    pesq = None

__all__ = ["Case", "Figures", "main", "measure"]

_FRAME_S = 0.020
_FRAME_SAMPLES = RATE_HZ // 50
_LOSS_UNDER_JITTER = 2
_TAIL_FRAMES = 25  # packets behind the speech, so that no receiver ends with it in its buffer
_CODEC_DELAY = 156  # samples by which Opus is late, of which STOI, unlike PESQ, must be told
_PESQ_HZ = 16_000
_RECEIVERS: tuple[Callable[[], Receiver], ...] = (BridgeReceiver, AiortcReceiver)


@dataclass(frozen=True, slots=True)
class Case:
    """One network."""

    loss_percent: float = 0
    is_bursty: bool = False
    jitter_ms: float = 0


@dataclass(frozen=True, slots=True)
class Figures:
    """What came out of one receiver."""

    receiver: str
    loss_percent: float
    is_bursty: bool
    jitter_ms: float
    delivered_percent: float
    """Sound, concealed sound included, of the time that was sent."""
    longest_gap_ms: float
    delay_p50_ms: float
    delay_p99_ms: float
    """From the end of a frame's being spoken to its coming out."""
    stoi: float
    pesq: float | None


_Value = Callable[[Figures], float]


def measure(case: Case, *, seconds: float, seeds: int) -> list[Figures]:
    """Both receivers on the same network, averaged over ``seeds`` runs; gap and delays of all runs together."""
    runs = [_run(case, _speech(seconds), seed) for seed in range(seeds)]
    return [_combine([run[number] for run in runs]) for number in range(len(_RECEIVERS))]


def _speech(seconds: float) -> bytes:
    """So much speech, in whole frames."""
    once = speech()
    wanted = int(seconds / _FRAME_S) * 2 * _FRAME_SAMPLES
    return (once * (wanted // len(once) + 1))[:wanted]


def _run(case: Case, pcm: bytes, seed: int) -> list[Figures]:
    chance = np.random.default_rng(seed)
    packets = list(_packets(pcm + bytes(_TAIL_FRAMES * 2 * _FRAME_SAMPLES), case.loss_percent))
    sent = np.arange(len(packets)) * _FRAME_S
    lost = losses(case.loss_percent, len(packets), chance, is_bursty=case.is_bursty)
    arrivals = sent + chance.random(len(packets)) * case.jitter_ms / 1000
    order = [int(number) for number in np.argsort(arrivals, kind="stable") if not lost[number]]
    arriving = [(float(arrivals[number]), packets[number]) for number in order]
    first_poll_s = chance.random() * POLL_S  # a peer's place in the clock's round has nothing to do with its packets
    figures = []
    for new_receiver in _RECEIVERS:
        receiver = new_receiver()
        pieces = list(feed(receiver, arriving, first_poll_s=first_poll_s))
        figures.append(_judge(receiver.name, case, pieces, pcm))
    return figures


def _packets(pcm: bytes, loss_percent: float) -> Iterator[bytes]:
    encoder = new_encoder(RATE_HZ)
    encoder.set_packet_loss(max(5, round(loss_percent)))
    size = 2 * _FRAME_SAMPLES
    for number in range(len(pcm) // size):
        payload = encoder.encode(pcm[number * size : (number + 1) * size])
        yield pack_rtp(payload, payload_type=OPUS, sequence=number, rtp_timestamp=number * 960, ssrc=1)


def _judge(name: str, case: Case, pieces: list[Piece], pcm: bytes) -> Figures:
    sent = len(pcm) // 2
    timeline = np.zeros(sent, np.int16)
    is_sound = np.zeros(sent, dtype=bool)
    delays = []
    for piece in pieces:
        end = min(sent, piece.position + len(piece.samples))
        if piece.position >= end or not piece.is_sound:
            continue
        timeline[piece.position : end] = piece.samples[: end - piece.position]
        is_sound[piece.position : end] = True
        spoken_at = np.arange(piece.position // _FRAME_SAMPLES, -(-end // _FRAME_SAMPLES)) * _FRAME_S
        delays += (1000 * (piece.at_s - spoken_at)).tolist()
    heard = timeline.astype("<i2").tobytes()
    return Figures(
        receiver=name,
        **asdict(case),
        delivered_percent=100 * float(is_sound.mean()),
        longest_gap_ms=1000 * _longest_run(~is_sound) / RATE_HZ,
        delay_p50_ms=float(np.percentile(delays, 50)),
        delay_p99_ms=float(np.percentile(delays, 99)),
        stoi=float(stoi(_samples(pcm)[:-_CODEC_DELAY], _samples(heard)[_CODEC_DELAY:], RATE_HZ)),
        pesq=_pesq(pcm, heard),
    )


def _longest_run(flags: NDArray[np.bool_]) -> int:
    edges = np.flatnonzero(np.diff(np.concatenate(([0], flags.astype(np.int8), [0]))))
    return int((edges[1::2] - edges[::2]).max()) if len(edges) else 0


def _samples(pcm: bytes) -> NDArray[np.float64]:
    return np.frombuffer(pcm, "<i2").astype(np.float64)


def _pesq(spoken: bytes, heard: bytes) -> float | None:
    if pesq is None:
        return None
    reference, degraded = (np.frombuffer(Resampler(RATE_HZ, _PESQ_HZ).push(pcm), "<i2") for pcm in (spoken, heard))
    return float(pesq(_PESQ_HZ, reference, degraded, "wb"))


def _combine(runs: list[Figures]) -> Figures:
    def mean(name: str) -> float:
        return round(float(np.mean([getattr(run, name) for run in runs])), 3)

    return Figures(
        receiver=runs[0].receiver,
        loss_percent=runs[0].loss_percent,
        is_bursty=runs[0].is_bursty,
        jitter_ms=runs[0].jitter_ms,
        delivered_percent=mean("delivered_percent"),
        longest_gap_ms=round(max(run.longest_gap_ms for run in runs), 1),
        delay_p50_ms=mean("delay_p50_ms"),
        delay_p99_ms=round(max(run.delay_p99_ms for run in runs), 1),
        stoi=mean("stoi"),
        pesq=None if runs[0].pesq is None else mean("pesq"),
    )


def cases(*, is_quick: bool) -> list[Case]:
    losses = (0, 2, 10) if is_quick else (0, 1, 2, 5, 10, 15, 20, 30)
    jitters = (60,) if is_quick else (20, 40, 60, 80, 100)
    cases = [Case(loss, is_bursty) for is_bursty in (False, True) for loss in losses]
    return cases + [Case(_LOSS_UNDER_JITTER, jitter_ms=jitter) for jitter in jitters]


def _draw(figures: list[Figures], path: Path) -> None:
    """Four panels over loss, two over jitter, the bridge and aiortc in each."""
    picture = new_picture(11, 6.4)
    panels = picture.subplots(2, 3)
    over_loss = [each for each in figures if each.jitter_ms == 0]
    over_jitter = [each for each in figures if each.loss_percent == 2 and not each.is_bursty]
    quality: _Value = lambda each: each.stoi if each.pesq is None else each.pesq  # noqa: E731
    name = "STOI" if figures[0].pesq is None else "PESQ"
    _over_loss(panels[0, 0], over_loss, quality, f"speech quality ({name})")
    _over_loss(panels[0, 1], over_loss, lambda each: each.delivered_percent, "sound delivered (%)")
    _over_loss(panels[1, 0], over_loss, lambda each: each.delay_p99_ms, "delay p99 (ms)")
    _over_loss(panels[1, 1], over_loss, lambda each: each.longest_gap_ms, "longest gap (ms)")
    _over_jitter(panels[0, 2], over_jitter, quality, f"speech quality ({name}), 2 % loss")
    _over_jitter(panels[1, 2], over_jitter, lambda each: each.delay_p99_ms, "delay p99 (ms), 2 % loss")
    panels[0, 0].legend(fontsize=8)
    picture.savefig(path)


def _over_loss(axes: "Axes", figures: list[Figures], value: _Value, title: str) -> None:
    for receiver, colour in _colours(figures):
        for is_bursty in (False, True):
            line = [each for each in figures if each.receiver == receiver and each.is_bursty == is_bursty]
            line.sort(key=lambda each: each.loss_percent)
            label = f"{receiver}, {'bursts of 3' if is_bursty else 'random loss'}"
            _line(axes, [each.loss_percent for each in line], list(map(value, line)), colour, label, is_bursty)
    _finish(axes, title, "packets lost (%)")


def _over_jitter(axes: "Axes", figures: list[Figures], value: _Value, title: str) -> None:
    for receiver, colour in _colours(figures):
        line = sorted((each for each in figures if each.receiver == receiver), key=lambda each: each.jitter_ms)
        _line(axes, [each.jitter_ms for each in line], list(map(value, line)), colour, receiver, False)
    _finish(axes, title, "jitter: up to … ms late")


def _colours(figures: list[Figures]) -> list[tuple[str, str]]:
    return [(receiver, COLOURS[receiver]) for receiver in dict.fromkeys(each.receiver for each in figures)]


def _line(axes: "Axes", x: list[float], y: list[float], colour: str, label: str, is_dashed: bool) -> None:
    axes.plot(x, y, "o--" if is_dashed else "o-", color=colour, label=label, markersize=3, linewidth=1.4)


def _finish(axes: "Axes", title: str, unit: str) -> None:
    axes.set_title(title, fontsize=10)
    axes.set_xlabel(unit, fontsize=8)
    axes.set_ylim(bottom=0)
    axes.tick_params(labelsize=8)
    axes.grid(alpha=0.25)


def main() -> None:
    """Measures, prints a JSON line for each case and receiver, and draws."""
    parser = argparse.ArgumentParser(description="What loss and jitter do to speech.")
    parser.add_argument("--quick", action="store_true", help="a few cases only, in a few seconds")
    parser.add_argument("--seconds", type=float, help="of speech for each run (default: 26, quick: 5)")
    parser.add_argument("--seeds", type=int, help="runs for each case (default: 4, quick: 1)")
    parser.add_argument("--json", type=Path, help="write the figures to this file, too")
    parser.add_argument("--png", type=Path, help="draw them into this file")
    arguments = parser.parse_args()
    seconds = arguments.seconds or (5 if arguments.quick else 26)
    seeds = arguments.seeds or (1 if arguments.quick else 4)
    figures: list[Figures] = []
    for case in tqdm(cases(is_quick=arguments.quick), desc="networks", unit="case", disable=None):
        figures += measure(case, seconds=seconds, seeds=seeds)
    for each in figures:
        sys.stdout.write(json.dumps(asdict(each)) + "\n")
    if arguments.json is not None:
        lines = ",\n".join(json.dumps(asdict(each)) for each in figures)
        arguments.json.write_text(f"[\n{lines}\n]\n")
    if arguments.png is not None:
        _draw(figures, arguments.png)


if __name__ == "__main__":
    main()
