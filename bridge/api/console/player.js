/**
 * Plays one track of a call: samples come as messages, at 24 kHz, and go out as they are due.
 *
 * A live track (the caller) waits until a little is there, so that an uneven network is not heard, and lets the oldest
 * go if too much is there. The other one (the answer) comes faster than it is spoken: it waits its turn, up to a limit.
 */

const SAMPLES_PER_MS = 24;
const TELL_EVERY_MS = 200;

class TrackPlayer extends AudioWorkletProcessor {
  #isLive;
  #startSamples;
  #limitSamples;
  #pieces = [];
  #at = 0; // of the first piece, what is played already
  #held = 0; // samples that wait
  #isWaiting = true;
  #untilTold = 0;
  #last = -1;

  constructor({ processorOptions: { isLive, startMs, limitMs } }) {
    super();
    this.#isLive = isLive;
    this.#startSamples = startMs * SAMPLES_PER_MS;
    this.#limitSamples = limitMs * SAMPLES_PER_MS;
    this.port.onmessage = ({ data }) => (data === "clear" ? this.#clear() : this.#push(data));
  }

  #clear() {
    this.#pieces = [];
    this.#at = this.#held = 0;
    this.#isWaiting = true;
  }

  #push(pcm) {
    if (!this.#isLive && this.#held + pcm.length > this.#limitSamples) return;
    this.#pieces.push(pcm);
    this.#held += pcm.length;
    while (this.#isLive && this.#held > this.#limitSamples) {
      this.#held -= this.#pieces.shift().length - this.#at;
      this.#at = 0;
    }
  }

  process(inputs, [[out]]) {
    if (this.#isWaiting && this.#held >= this.#startSamples && this.#held > 0) this.#isWaiting = false;
    let done = 0;
    while (!this.#isWaiting && done < out.length && this.#held > 0) {
      const piece = this.#pieces[0];
      const count = Math.min(piece.length - this.#at, out.length - done);
      for (let index = 0; index < count; index++) out[done + index] = piece[this.#at + index] / 32768;
      done += count;
      this.#at += count;
      this.#held -= count;
      if (this.#at === piece.length) {
        this.#pieces.shift();
        this.#at = 0;
      }
    }
    if (this.#held === 0) this.#isWaiting = true;
    this.#tell(out.length);
    return true;
  }

  #tell(samples) {
    this.#untilTold -= samples;
    const heldMs = Math.round(this.#held / SAMPLES_PER_MS);
    if (this.#untilTold > 0 || heldMs === this.#last) return;
    this.#untilTold = TELL_EVERY_MS * SAMPLES_PER_MS;
    this.#last = heldMs;
    this.port.postMessage(heldMs);
  }
}

registerProcessor("track-player", TrackPlayer);
