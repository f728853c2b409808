"""What is left of speech behind the bridge's receiver and behind NetEq: ``python -m benchmarks neteq [--quick]``.

NetEq is the jitter buffer of libwebrtc, and so of Chromium. Sentences are spoken by the engine's voice, encoded as a
browser would and sent over simulated networks to libwebrtc itself, in real time, over loopback. The bridge's receiver
is then fed with the very packets that were sent, at the times at which they were. For each network and receiver: words
that the engine's own ears get wrong, how good the sound is to the ear (PESQ, wide band, 1 to 4.6; where that is
installed), and how long after they were spoken the pieces of speech came out that can be found in it (p50, p99).
"""

import argparse
import asyncio
import contextlib
import json
import os
import sys
from dataclasses import asdict, dataclass, field

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from benchmarks.kit.load import LoadPeer, Weather
from benchmarks.kit.network import hold_back, losses
from benchmarks.kit.output import COLOURS, add_output_flags, new_picture, run, save
from benchmarks.kit.sampling import machine
from benchmarks.libwebrtc import NetEqReceiver
from benchmarks.receivers import OPUS, POLL_S, RATE_HZ, RED, BridgeReceiver, Samples, feed
from benchmarks.words import SENTENCES, Ears, count, misheard
from bridge.engine.voice import Voice
from bridge.media.opus import FRAME_MS, Encoder, OpusEncoder, find_libopus
from bridge.media.red import write_red
from bridge.media.resample import Resampler
from bridge.media.rtp import CLOCK_HZ
from bridge.webrtc.dtls import new_certificate

try:
    from pesq import pesq
except ImportError:  # it comes as source, and not everyone has a compiler
    pesq = None

__all__ = ["CASES", "Case", "Figures", "delays_ms", "main", "measure"]

_SAMPLE_BYTES = 2
_LEAD_S, _PAUSE_S, _TAIL_S = 1.0, 0.5, 1.0
"""Silence before the first sentence of a call, in which a jitter buffer settles, between two, and behind the last."""
_SENTENCES_PER_CALL = 2
_CALLS_AT_A_TIME = 11
_START_S, _DRAIN_S = 0.2, 0.7
_BITRATE = 32_000
_ASSUMED_LOSS_PERCENT = 5
_DTX_BYTES = 2  # a packet of up to two bytes need not be sent
_PESQ_HZ = 16_000
_COARSE_HZ = 8_000  # where pieces of speech are looked for
_PIECE_S, _STEP_S = 0.160, 0.113
_EARLIEST_S, _LATEST_S = -0.3, 1.0  # by which a piece may be away from where it was spoken
_LEAST_RMS = 300.0  # of a piece that is speech
_LEAST_LIKENESS = 0.8  # the correlation with which a piece counts as found


@dataclass(frozen=True, slots=True)
class Case:
    """One network, or one way to send."""

    name: str
    loss_percent: float = 0
    is_bursty: bool = False
    jitter_ms: float = 0
    holds_back: bool = False
    uses_dtx: bool = False
    frame_ms: int = FRAME_MS
    has_copies: bool = False
    """Each packet carries the one before the last once more (RFC 2198), as the bridge sends answers under loss."""


CASES = (
    Case("nothing is lost"),
    Case("10 % lost at random", 10),
    Case("10 % lost in bursts of 3", 10, is_bursty=True),
    Case("10 % lost at random, with copies", 10, has_copies=True),
    Case("10 % lost in bursts of 3, with copies", 10, is_bursty=True, has_copies=True),
    Case("up to 80 ms late", jitter_ms=80),
    Case("held back for 500 ms", holds_back=True),
    Case("DTX, 10 % lost", 10, uses_dtx=True),
    Case("packets of 60 ms, 10 % lost", 10, frame_ms=60),
)


@dataclass(frozen=True, slots=True)
class Figures:
    """What came out of one receiver, over all calls of a case."""

    case: str
    receiver: str
    words: int
    wrong: int
    pesq: float | None
    delay_p50_ms: float
    delay_p99_ms: float


@dataclass(frozen=True, slots=True)
class _Script:
    """What is said in one call."""

    text: str
    pcm: bytes


@dataclass(slots=True)
class _Call:
    """One call of a case, and what came of it; times in s from its first packet on."""

    case: Case
    script: _Script
    seed: int
    sent: list[tuple[float, bytes]] = field(default_factory=list)
    """What libwebrtc got, in that order, unencrypted."""
    neteq: list[tuple[float, Samples]] = field(default_factory=list)


@dataclass(slots=True)
class _Sum:
    words: int = 0
    wrong: int = 0
    pesq: list[float] = field(default_factory=list)
    delays_ms: list[float] = field(default_factory=list)


def _scripts(calls: int) -> list[_Script]:
    voice = Voice(seed=0)
    scripts = []
    for number in range(calls):
        sentences = SENTENCES[number * _SENTENCES_PER_CALL : (number + 1) * _SENTENCES_PER_CALL]
        pcm = _silence(_LEAD_S) + _silence(_PAUSE_S).join(voice.say(sentence) for sentence in sentences)
        pcm += _silence(_TAIL_S)
        whole = len(pcm) // (_SAMPLE_BYTES * RATE_HZ * 3 * FRAME_MS // 1000)  # in frames of 20 and of 60 ms
        scripts.append(_Script(" ".join(sentences), pcm[: whole * _SAMPLE_BYTES * RATE_HZ * 3 * FRAME_MS // 1000]))
    return scripts


def _silence(seconds: float) -> bytes:
    return bytes(_SAMPLE_BYTES * round(RATE_HZ * seconds))


def _new_encoder(case: Case) -> Encoder:
    library = find_libopus()
    assert library is not None
    encoder = OpusEncoder(library, RATE_HZ, bitrate=_BITRATE, frame_ms=case.frame_ms)
    encoder.set_packet_loss(max(_ASSUMED_LOSS_PERCENT, round(case.loss_percent)))
    encoder.set_dtx(case.uses_dtx)
    return encoder


@dataclass(frozen=True, slots=True)
class _Packet:
    rtp_timestamp: int
    payload: bytes
    payload_type: int = OPUS


def _packets(case: Case, pcm: bytes) -> list[_Packet]:
    """What is sent of a call; with DTX, packets that need not be sent are left out."""
    encoder = _new_encoder(case)
    size = _SAMPLE_BYTES * RATE_HZ * case.frame_ms // 1000
    ticks = CLOCK_HZ * case.frame_ms // 1000
    plain = [_Packet(at // size * ticks, encoder.encode(pcm[at : at + size])) for at in range(0, len(pcm), size)]
    if case.has_copies:
        return plain[:2] + [_with_copy(own, copy, ticks) for own, copy in zip(plain[2:], plain, strict=False)]
    return [packet for packet in plain if not case.uses_dtx or len(packet.payload) > _DTX_BYTES]


def _with_copy(own: _Packet, copy: _Packet, ticks: int) -> _Packet:
    payload = write_red(own.payload, copy.payload, payload_type=OPUS, frame_ticks=ticks)
    return _Packet(own.rtp_timestamp, payload, RED)


# In real time


async def _speak(call: _Call) -> None:
    """Has libwebrtc hear one call."""
    case, loop = call.case, asyncio.get_running_loop()
    chance = np.random.default_rng(call.seed)
    packets = _packets(case, call.script.pcm)
    due = np.array([packet.rtp_timestamp / CLOCK_HZ for packet in packets]) + case.frame_ms / 1000
    lost = losses(case.loss_percent, len(packets), chance, is_bursty=case.is_bursty)
    arrivals: NDArray[np.floating] = due + chance.random(len(packets)) * case.jitter_ms / 1000
    if case.holds_back:
        arrivals = hold_back(arrivals, chance)
    receiver = NetEqReceiver()
    peer = LoadPeer(new_certificate(), 0, Weather())
    try:
        await peer.connect("127.0.0.1", receiver.answer)
        began = loop.time() + _START_S
        for number in np.argsort(arrivals, kind="stable").tolist():
            if lost[number]:
                continue
            await asyncio.sleep(began + float(arrivals[number]) - loop.time())
            packet = packets[number]
            sent = peer.send_rtp(
                packet.payload,
                sequence=number,
                rtp_timestamp=packet.rtp_timestamp,
                payload_type=packet.payload_type,
            )
            call.sent.append((loop.time() - began, sent))
        await asyncio.sleep(_DRAIN_S)
        call.neteq = [(frame.at_s - began, frame.samples) for frame in receiver.heard(began)]
        if peer.faults:
            raise RuntimeError(f"the call was disturbed: {peer.faults}")
    finally:
        await peer.aclose()
        await receiver.aclose()


async def _speak_all(calls: list[_Call]) -> None:
    """Some calls at a time; if root runs it, first in line for the cores, because it must not be late."""
    with contextlib.suppress(PermissionError):
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
    try:
        with tqdm(total=len(calls), desc="speaking", unit="call", disable=None) as bar:
            for at in range(0, len(calls), _CALLS_AT_A_TIME):
                batch = calls[at : at + _CALLS_AT_A_TIME]
                async with asyncio.TaskGroup() as speaking:
                    for call in batch:
                        speaking.create_task(_speak(call))
                bar.update(len(batch))
    finally:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


# Judged afterwards


def _bridge_hears(call: _Call) -> list[tuple[float, Samples]]:
    first_poll_s = np.random.default_rng(call.seed).random() * POLL_S
    return [(piece.at_s, piece.samples) for piece in feed(BridgeReceiver(), call.sent, first_poll_s=first_poll_s)]


def _judge(call: _Call, heard: list[tuple[float, Samples]], ears: Ears, figures: _Sum) -> None:
    pcm = np.concatenate([samples for _, samples in heard]).tobytes()
    figures.words += count(call.script.text)
    figures.wrong += misheard(call.script.text, ears.words_in(pcm))
    figures.delays_ms += delays_ms(call.script.pcm, heard)
    if pesq is not None:
        spoken, degraded = (
            np.frombuffer(Resampler(RATE_HZ, _PESQ_HZ).push(each), "<i2") for each in (call.script.pcm, pcm)
        )
        figures.pesq.append(float(pesq(_PESQ_HZ, spoken, degraded, "wb")))


def delays_ms(spoken: bytes, heard: list[tuple[float, Samples]]) -> list[float]:
    """How long after it was spoken each piece of speech came out, of those that are found in what was heard.

    ``spoken`` is PCM16 at ``RATE_HZ`` that begins at time 0; ``heard`` are pieces of one stream with the times, in s,
    at which they came.
    """
    times = np.array([at_s for at_s, _ in heard])
    ends = np.cumsum([len(samples) for _, samples in heard])
    reference, stream = _coarse(spoken), _coarse(np.concatenate([samples for _, samples in heard]).tobytes())
    size = round(_PIECE_S * _COARSE_HZ)
    delays = []
    for at in range(0, len(reference) - size, round(_STEP_S * _COARSE_HZ)):
        piece = reference[at : at + size]
        if np.sqrt(np.mean(piece**2)) < _LEAST_RMS:
            continue
        first = max(0, at + round(_EARLIEST_S * _COARSE_HZ))
        likeness = _likeness(piece, stream[first : at + size + round(_LATEST_S * _COARSE_HZ)])
        if len(likeness) == 0 or likeness.max() < _LEAST_LIKENESS:
            continue
        last = (first + int(likeness.argmax()) + size - 1) * RATE_HZ // _COARSE_HZ
        came_at = times[min(int(np.searchsorted(ends, last, side="right")), len(times) - 1)]
        delays.append(1000 * float(came_at - (at + size) / _COARSE_HZ))
    return delays


def _coarse(pcm: bytes) -> NDArray[np.float64]:
    return np.frombuffer(Resampler(RATE_HZ, _COARSE_HZ).push(pcm), "<i2").astype(np.float64)


def _likeness(piece: NDArray[np.float64], stream: NDArray[np.float64]) -> NDArray[np.float64]:
    """The correlation of ``piece`` with each stretch of ``stream`` that is as long."""
    places = len(stream) - len(piece) + 1
    if places <= 0:
        return np.empty(0)
    points = 1 << (len(stream) + len(piece)).bit_length()
    product = np.fft.irfft(np.fft.rfft(stream, points) * np.conj(np.fft.rfft(piece, points)), points)[:places]
    energy = np.concatenate(([0.0], np.cumsum(stream**2)))
    norm = np.sqrt((energy[len(piece) :] - energy[:places]) * np.sum(piece**2))
    likeness: NDArray[np.float64] = product / np.maximum(norm, 1.0)
    return likeness


def measure(*, calls: int, seeds: int, cases: tuple[Case, ...] = CASES) -> list[Figures]:
    """Both receivers in each case: ``calls`` different calls, each ``seeds`` times."""
    scripts = _scripts(calls)
    spoken = [
        _Call(case, script, seed * calls + number)
        for seed in range(seeds)
        for case in cases
        for number, script in enumerate(scripts)
    ]
    run(_speak_all(spoken))
    ears = Ears()
    sums = {(case, receiver): _Sum() for case in cases for receiver in ("bridge", "NetEq")}
    for call in tqdm(spoken, desc="listening", unit="call", disable=None):
        _judge(call, _bridge_hears(call), ears, sums[call.case, "bridge"])
        _judge(call, call.neteq, ears, sums[call.case, "NetEq"])
    return [_figures(case.name, receiver, total) for (case, receiver), total in sums.items()]


def _figures(case: str, receiver: str, total: _Sum) -> Figures:
    return Figures(
        case=case,
        receiver=receiver,
        words=total.words,
        wrong=total.wrong,
        pesq=round(float(np.mean(total.pesq)), 2) if total.pesq else None,
        delay_p50_ms=round(float(np.percentile(total.delays_ms, 50))),
        delay_p99_ms=round(float(np.percentile(total.delays_ms, 99))),
    )


def _draw(results: dict[str, object], path: str) -> None:
    """Bars of the two receivers for each case: words, quality, delay."""
    figures = results["figures"]
    assert isinstance(figures, list)
    cases = list(dict.fromkeys(each["case"] for each in figures))
    picture = new_picture(12, 4.2)
    panels = picture.subplots(1, 3, sharey=True)
    for number, (receiver, colour) in enumerate((name, COLOURS[name]) for name in ("bridge", "NetEq")):
        of_receiver = [each for each in figures if each["receiver"] == receiver]
        rows = np.arange(len(cases)) + 0.4 * number - 0.2
        bars = {"height": 0.38, "color": colour, "label": receiver}
        wrong = [100 * each["wrong"] / each["words"] for each in of_receiver]
        panels[0].bar_label(panels[0].barh(rows, wrong, **bars), fmt="%.1f", fontsize=7)
        panels[1].bar_label(
            panels[1].barh(rows, [each["pesq"] or 0 for each in of_receiver], **bars), fmt="%.2f", fontsize=7
        )
        worst = panels[2].barh(rows, [each["delay_p99_ms"] for each in of_receiver], alpha=0.4, **bars)
        panels[2].bar_label(worst, fmt="%.0f", fontsize=7)
        panels[2].barh(rows, [each["delay_p50_ms"] for each in of_receiver], height=0.38, color=colour)
    titles = ("words misheard (%)", "speech quality (PESQ)", "delay p50 (dark) and p99 (ms)")
    for axes, title in zip(panels, titles, strict=True):
        axes.set_title(title, fontsize=10)
        axes.tick_params(labelsize=8)
        axes.grid(axis="x", alpha=0.25)
        axes.margins(x=0.12)  # for the labels
    panels[0].set_yticks(np.arange(len(cases)), cases)
    panels[0].invert_yaxis()
    panels[0].legend(fontsize=8)
    picture.savefig(path)


def main() -> None:
    """Measures and prints JSON."""
    parser = argparse.ArgumentParser(
        description="What is left of speech behind the bridge's receiver and behind NetEq."
    )
    parser.add_argument("--quick", action="store_true", help="one call for each network, at the same time")
    parser.add_argument("--calls", type=int, help="different calls, of two sentences each (default: 11, quick: 1)")
    parser.add_argument("--seeds", type=int, help="how often each of them is made (default: 2, quick: 1)")
    add_output_flags(parser)
    arguments = parser.parse_args()
    calls = arguments.calls or (1 if arguments.quick else len(SENTENCES) // _SENTENCES_PER_CALL)
    figures = measure(calls=calls, seeds=arguments.seeds or (1 if arguments.quick else 2))
    results = {"machine": machine(), "figures": [asdict(each) for each in figures]}
    sys.stdout.write(json.dumps(results) + "\n")
    save(arguments, results, _draw)


if __name__ == "__main__":
    main()
