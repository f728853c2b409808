/**
 * Listening to one call as an observer: both tracks are played in the page, what is said is written down.
 *
 *     connecting ─▶ listening ─▶ ended
 *         ▲            ▼
 *         └─────── reconnecting        (behind the last event that came)
 *
 * The caller's sound is live. The answer's comes faster than it is spoken, so it waits here as it waits for the caller,
 * and is dropped when the caller's is (`output_audio_buffer.cleared`).
 */

import { endedBecause, endingOf } from "./call.js";
import { Conversation } from "./conversation.js";
import { address, authorization, copyText, problemOf, setText, socketAddress } from "./dom.js";
import { Meters } from "./meters.js";

const RATE_HZ = 24_000;
const CALLER = { isLive: true, startMs: 120, limitMs: 1_500 };
const ANSWER = { isLive: false, startMs: 0, limitMs: 600_000 };
const FIRST_RETRY_MS = 500;
const LONGEST_RETRY_MS = 15_000;
const SOUND = { "input_audio_buffer.append": ["caller", "audio"], "response.output_audio.delta": ["answer", "delta"] };

export class Listening {
  callId = null;
  #parts;
  #key;
  #onOpened;
  #meters;
  #conversation;
  #context = null;
  #loading = null;
  #players = null; // { caller, answer }, each { node, gain }
  #socket = null;
  #retry = null;
  #retryMs = FIRST_RETRY_MS;
  #lastEventId = null;
  #opener = null;
  #soundProblem = "";

  /** `parts`: panel, id, state, close, empty, turns, meters and mutes (each caller and answer). */
  constructor(parts, { key, onOpened = () => {} }) {
    this.#parts = parts;
    this.#key = key;
    this.#onOpened = onOpened;
    this.#meters = new Meters(parts.meters);
    this.#conversation = new Conversation({ list: parts.turns, welcome: parts.empty });
    parts.close.addEventListener("click", () => this.close());
    parts.id.addEventListener("click", () => copyText(this.callId, parts.id));
    parts.panel.addEventListener("keydown", ({ key: pressed }) => pressed === "Escape" && this.close());
    for (const [track, button] of Object.entries(parts.mutes)) button.addEventListener("click", () => this.#toggle(track));
  }

  get isOpen() {
    return !this.#parts.panel.hidden;
  }

  /** Must be called from a click: browsers play nothing before one. */
  open(callId) {
    this.#stop();
    this.#onOpened();
    this.#opener = document.activeElement;
    this.callId = callId;
    this.#lastEventId = null;
    this.#retryMs = FIRST_RETRY_MS;
    setText(this.#parts.id, callId);
    this.#conversation.clear();
    this.#parts.panel.hidden = false;
    this.#become("connecting", "connecting");
    this.#parts.close.focus();
    this.#startSound();
    this.#connect();
  }

  close() {
    if (!this.isOpen) return;
    this.#stop();
    this.callId = null;
    this.#parts.panel.hidden = true;
    if (this.#opener?.isConnected) this.#opener.focus();
  }

  async #startSound() {
    this.#soundProblem = "";
    if (!("audioWorklet" in AudioContext.prototype)) {
      this.#soundProblem = "text only: browsers play sound only on https:// pages and on localhost";
      return;
    }
    try {
      this.#context ??= new AudioContext({ sampleRate: RATE_HZ });
      this.#context.resume();
      this.#loading ??= this.#context.audioWorklet.addModule(address("player.js"));
      await this.#loading;
      this.#players ??= { caller: this.#player(CALLER), answer: this.#player(ANSWER) };
      if (!this.isOpen) return;
      ["caller", "answer"].forEach((track, index) => this.#meters.tap(index, this.#players[track].node));
    } catch (error) {
      this.#loading = null;
      this.#soundProblem = `text only: the sound did not start (${error.message})`;
      this.#tellState();
    }
  }

  #player(processorOptions) {
    const node = new AudioWorkletNode(this.#context, "track-player", { numberOfInputs: 0, outputChannelCount: [1], processorOptions });
    const gain = this.#context.createGain();
    node.connect(gain).connect(this.#context.destination);
    return { node, gain };
  }

  #toggle(track) {
    const button = this.#parts.mutes[track];
    const isMuted = button.getAttribute("aria-pressed") !== "true";
    button.setAttribute("aria-pressed", String(isMuted));
    if (this.#players) this.#players[track].gain.gain.value = isMuted ? 0 : 1;
  }

  #connect() {
    const url = socketAddress("v1/realtime");
    url.search = new URLSearchParams({ call_id: this.callId, role: "observer", audio: "pcm16" });
    if (this.#lastEventId) url.searchParams.set("after", this.#lastEventId);
    const key = this.#key();
    // A browser can put no header on a WebSocket; the protocol's way round is a subprotocol.
    const socket = (this.#socket = new WebSocket(url, key ? ["realtime", `openai-insecure-api-key.${key}`] : []));
    let wasOpen = false;
    socket.onopen = () => {
      wasOpen = true;
      this.#retryMs = FIRST_RETRY_MS;
      this.#become("listening", "listening, unnoticed; live");
    };
    socket.onmessage = ({ data }) => this.#receive(data);
    socket.onclose = ({ reason }) => {
      if (socket !== this.#socket) return;
      this.#socket = null;
      if (this.#state === "ended") return;
      if (!wasOpen) this.#findOut();
      else this.#reconnect(reason);
    };
  }

  #reconnect(reason) {
    const seconds = this.#retryMs / 1000;
    this.#become("reconnecting", `the connection broke${reason ? ` (${reason.replaceAll("_", " ")})` : ""}: trying again in ${seconds} s`);
    this.#retry = setTimeout(() => this.#connect(), this.#retryMs);
    this.#retryMs = Math.min(2 * this.#retryMs, LONGEST_RETRY_MS);
  }

  /** A browser does not say why a WebSocket was refused; the same question by HTTP does. */
  async #findOut() {
    const { callId } = this;
    try {
      const response = await fetch(address(`v1/calls/${encodeURIComponent(callId)}`), { headers: authorization(this.#key()), signal: AbortSignal.timeout(5_000) });
      if (callId !== this.callId) return;
      if (response.status === 404) this.#become("ended", (await endingOf(callId, this.#key())) || "the call has ended");
      else if (response.status === 401 || response.status === 403) this.#become("ended", "key needed: enter one that may listen under Settings");
      else if (!response.ok) this.#become("ended", await problemOf(response));
      else if (this.#lastEventId) {
        this.#lastEventId = null; // what was missed is kept no more
        this.#conversation.note("Some events are missing here.");
        this.#connect();
      } else this.#become("ended", "refused: too many listeners, or the key may not listen");
    } catch {
      if (callId === this.callId) this.#reconnect("");
    }
  }

  #receive(data) {
    let event;
    try {
      event = JSON.parse(data);
    } catch {
      return;
    }
    if (event.event_id) this.#lastEventId = event.event_id;
    const [track, field] = SOUND[event.type] ?? [];
    if (track) {
      if (event[field]) this.#players?.[track].node.port.postMessage(samplesOf(event[field]));
      return;
    }
    if (event.type === "output_audio_buffer.cleared") this.#players?.answer.node.port.postMessage("clear");
    if (event.type === "bridge.call.lost") this.#become("listening", "the caller's connection broke; waiting for them to come back");
    if (event.type === "bridge.call.resumed") this.#become("listening", "listening, unnoticed; live");
    if (event.type === "bridge.listener.dropped") this.#conversation.note("This page was too slow: some sound was dropped.");
    if (event.type === "bridge.call.closed") this.#become("ended", endedBecause(event));
    this.#conversation.received(event);
  }

  #state = "idle";
  #text = "";

  #become(state, text) {
    this.#state = state;
    this.#text = text;
    this.#tellState();
    if (state === "ended") this.#conversation.divide(text[0].toUpperCase() + text.slice(1));
  }

  #tellState() {
    this.#parts.state.dataset.state = this.#state;
    const sound = this.#state === "listening" && this.#soundProblem ? `; ${this.#soundProblem}` : "";
    setText(this.#parts.state, this.#text + sound);
  }

  #stop() {
    clearTimeout(this.#retry);
    const socket = this.#socket;
    this.#socket = null;
    socket?.close(1000);
    if (this.#players) for (const { node } of Object.values(this.#players)) node.port.postMessage("clear");
    this.#meters.detach();
    this.#context?.suspend();
  }
}

function samplesOf(base64) {
  const binary = atob(base64);
  const bytes = new Uint8Array(binary.length & ~1);
  for (let index = 0; index < bytes.length; index++) bytes[index] = binary.charCodeAt(index);
  return new Int16Array(bytes.buffer);
}
