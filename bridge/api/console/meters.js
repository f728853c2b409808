/** Level meters: the last seconds of sound as bars, newest at the right. */

import { onResize, setText } from "./dom.js";

const TICK_MS = 50;
const BAR_PX = 3;
const GAP_PX = 2;
const FLOOR_DB = -60; // quieter than this is drawn as nothing
const HISTORY = 600;

export class Meters {
  #meters;
  #context = null;
  #timer = null;

  constructor(roots) {
    this.#meters = roots.map((root) => new Meter(root));
    onResize(roots, () => this.#meters.forEach((meter) => meter.resize()));
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.#meters.forEach((meter) => meter.resize()));
  }

  /** Must first be called from a click: browsers start audio contexts only then. */
  wake() {
    this.#context ??= new AudioContext();
    this.#context.resume();
  }

  attach(index, stream) {
    this.wake();
    this.tap(index, this.#context.createMediaStreamSource(stream));
  }

  /** Shows what a node of any audio context plays. */
  tap(index, node) {
    this.#meters[index].attach(node);
    this.#timer ??= setInterval(() => this.#meters.forEach((meter) => meter.tick()), TICK_MS);
  }

  detach() {
    clearInterval(this.#timer);
    this.#timer = null;
    this.#meters.forEach((meter) => meter.detach());
    this.#context?.suspend();
  }
}

class Meter {
  #root;
  #canvas;
  #decibel;
  #source = null;
  #analyser = null;
  #samples = new Float32Array(2048); // 43 ms at 48 kHz, about one tick
  #levels = [];
  #level = 0;
  #ticks = 0;
  #colour = "";
  #faint = "";
  #still = matchMedia("(prefers-reduced-motion: reduce)");

  constructor(root) {
    this.#root = root;
    this.#canvas = root.querySelector("canvas");
    this.#decibel = root.querySelector(".decibel");
    this.resize();
  }

  attach(source) {
    this.detach();
    this.#analyser = source.context.createAnalyser();
    this.#analyser.fftSize = this.#samples.length;
    this.#source = source;
    this.#source.connect(this.#analyser);
    this.#root.dataset.loudest = "0";
  }

  detach() {
    this.#source?.disconnect(this.#analyser);
    this.#source = this.#analyser = null;
    this.#level = 0;
    this.#show(-Infinity);
    this.#draw();
  }

  tick() {
    if (!this.#analyser) return;
    this.#analyser.getFloatTimeDomainData(this.#samples);
    let sum = 0;
    for (const sample of this.#samples) sum += sample * sample;
    const decibel = 10 * Math.log10(sum / this.#samples.length);
    const now = Math.min(1, Math.max(0, 1 - decibel / FLOOR_DB));
    this.#level = Math.max(now, this.#level - 0.08); // falls slower than it rises, as meters do
    this.#levels.push(now);
    if (this.#levels.length > HISTORY) this.#levels.splice(0, this.#levels.length - HISTORY);
    if (this.#ticks++ % 4 === 0) this.#show(decibel);
    this.#root.dataset.level = this.#level.toFixed(3);
    this.#root.dataset.loudest = Math.max(this.#level, Number(this.#root.dataset.loudest)).toFixed(3); // for who looks late
    this.#draw();
  }

  resize() {
    const { clientWidth, clientHeight } = this.#canvas;
    this.#canvas.width = clientWidth * devicePixelRatio;
    this.#canvas.height = clientHeight * devicePixelRatio;
    const style = getComputedStyle(this.#root);
    this.#colour = style.getPropertyValue("--voice");
    this.#faint = style.getPropertyValue("--line");
    this.#draw();
  }

  #show(decibel) {
    this.#root.dataset.level = this.#level.toFixed(3);
    this.#root.setAttribute("aria-valuenow", String(Math.round(this.#level * 100)));
    setText(this.#decibel, decibel > FLOOR_DB ? `${Math.round(decibel)} dB`.replace("-", "−") : "–");
  }

  #draw() {
    const canvas = this.#canvas;
    const paint = canvas.getContext("2d");
    const width = canvas.width / devicePixelRatio;
    const height = canvas.height / devicePixelRatio;
    paint.setTransform(devicePixelRatio, 0, 0, devicePixelRatio, 0, 0);
    paint.clearRect(0, 0, width, height);
    if (this.#still.matches) {
      paint.fillStyle = this.#faint;
      paint.fillRect(0, height / 2 - 3, width, 6);
      paint.fillStyle = this.#colour;
      paint.fillRect(0, height / 2 - 3, width * this.#level, 6);
      return;
    }
    const bars = Math.floor(width / (BAR_PX + GAP_PX));
    for (let bar = 0; bar < bars; bar++) {
      const level = this.#levels.at(-1 - bar) ?? 0;
      const tall = Math.max(2, level * height);
      paint.fillStyle = level > 0.02 ? this.#colour : this.#faint;
      paint.beginPath();
      paint.roundRect(width - BAR_PX - bar * (BAR_PX + GAP_PX), (height - tall) / 2, BAR_PX, tall, 1.5);
      paint.fill();
    }
  }
}
