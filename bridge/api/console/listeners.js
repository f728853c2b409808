/** The calls on this server with who listens to them, and listeners that this page attaches itself. */

import { hangUpCall } from "./call.js";
import { confirmHangUp } from "./confirm.js";
import { address, authorization, clock, copyText, count, element, milliseconds, problemOf, setText, socketAddress } from "./dom.js";

const POLL_MS = 2_000;
const POLL_AFTER_FAILURE_MS = 10_000;
const MOST_CALLS = 100;
const SHOW_MS = 250;

/** Sound bytes of one millisecond, by format: 24 kHz of 16 bits, 8 kHz of 8. */
const BYTES_PER_MS = { pcm16: 48, g711_ulaw: 8, g711_alaw: 8 };

/** They stand in the list too, for their backlog, and are not what one calls listeners. */
const OF_THE_CALL = ["owner", "peer", "recorder"];

const TRACK_OF = {
  "input_audio_buffer.append": ["caller", "audio"],
  "response.output_audio.delta": ["answer", "delta"],
};

export class CallsPanel {
  #parts;
  #key;
  #own = () => null;
  #cards = new Map();
  #timer = null;
  #polling = false;
  #isShown = true;
  #listen;
  #onStatus;
  #attached = 0;

  /**
   * `parts`: the elements list, empty, total, audio, attached, attachedTitle. `key()` gives the API key, `own()` this page's call id.
   * `listen(id)` begins to listen to a call, `onStatus(status)` hears how requests were answered.
   */
  constructor(parts, { key, own, listen, onStatus }) {
    this.#listen = listen;
    this.#onStatus = onStatus;
    this.#parts = parts;
    this.#key = key;
    this.#own = own;
    setText(parts.empty.querySelector("code"), `.venv/bin/bridge call ${address("").href} --in tests/data/speech.wav`);
    parts.audio.addEventListener("change", () => this.#cards.forEach((card) => this.#address(card)));
    document.addEventListener("visibilitychange", () => this.refresh());
    this.refresh();
  }

  /** What is out of sight need not be asked for. */
  show(isShown) {
    this.#isShown = isShown;
    this.refresh();
  }

  /** Looks now, and every two seconds after that while the page is in sight. */
  async refresh() {
    clearTimeout(this.#timer);
    if (document.hidden || !this.#isShown || this.#polling) return;
    this.#polling = true;
    let wait = POLL_MS;
    try {
      const response = await fetch(address("v1/calls"), { headers: authorization(this.#key()), signal: AbortSignal.timeout(5_000) });
      this.#onStatus(response.status);
      if (!response.ok) throw new Error(response.status === 404 ? "This server has no list of calls." : await problemOf(response));
      this.#show((await response.json()).data);
    } catch (error) {
      wait = POLL_AFTER_FAILURE_MS;
      const reason = error instanceof TypeError || error.name === "TimeoutError" ? "The server does not answer." : error.message;
      setText(this.#parts.total, reason);
      this.#parts.total.classList.add("bad");
      this.#parts.empty.hidden = true; // who knows
    }
    this.#polling = false;
    this.#timer = setTimeout(() => this.refresh(), wait);
  }

  #show(calls) {
    const own = this.#own();
    const ordered = calls.toSorted((a, b) => (b.id === own) - (a.id === own) || a.started_at - b.started_at || a.id.localeCompare(b.id));
    const shown = ordered.slice(0, MOST_CALLS);
    const ids = new Set(shown.map((call) => call.id));
    for (const [id, card] of this.#cards) {
      if (!ids.has(id)) {
        card.node.remove();
        this.#cards.delete(id);
      }
    }
    shown.forEach((call, index) => {
      const card = this.#cards.get(call.id) ?? this.#make(call.id);
      this.#fill(card, call, call.id === own);
      if (this.#parts.list.children[index] !== card.node) this.#parts.list.insertBefore(card.node, this.#parts.list.children[index] ?? null);
    });
    this.#parts.empty.hidden = calls.length > 0 || this.#attached > 0;
    this.#parts.total.classList.remove("bad");
    const listeners = calls.flatMap((call) => call.listeners).filter(({ role }) => !OF_THE_CALL.includes(role)).length;
    const more = calls.length > MOST_CALLS ? `, first ${MOST_CALLS} shown` : "";
    setText(this.#parts.total, calls.length ? `${plural(calls.length, "call")}, ${plural(listeners, "listener")}${more}` : "");
  }

  #make(id) {
    const fields = Object.fromEntries(["name", "own", "facts", "peer", "url"].map((name) => [name, element(name === "url" ? "code" : "span", { className: name })]));
    setText(fields.name, id);
    fields.own.textContent = "this page";
    const listeners = element("ul", { className: "listeners" });
    const end = element("button", { type: "button", className: "end small", "aria-label": `Hang up ${id}`, onclick: () => this.#hangUp(id, end) }, "Hang up");
    const listen = element("button", { type: "button", className: "small", "aria-label": `Listen to ${id}`, title: "Hear both sides, and read what is said; nobody notices", onclick: () => this.#listen(id) }, "Listen");
    const attach = element("button", { type: "button", className: "small", onclick: () => this.#attach(id) }, "Attach here");
    attach.title = "A listener that counts what it receives, and plays nothing";
    const copyUrl = element("button", { type: "button", className: "quiet small", onclick: () => copyText(card.url, copyUrl) }, "Copy URL");
    const copyCommand = element("button", { type: "button", className: "quiet small", onclick: () => copyText(this.#command(card.url), copyCommand) }, "Copy command");
    const node = element(
      "li",
      { className: "call", data: { id } },
      element("div", { className: "line" }, fields.name, fields.own, element("span", { className: "grow" }), listen, end),
      element("div", { className: "facts-line" }, fields.facts, fields.peer),
      listeners,
      element("div", { className: "line attach" }, fields.url, attach, copyUrl, copyCommand),
    );
    const card = { id, node, fields, listeners, listen, end, attach, rows: new Map(), url: "" };
    this.#cards.set(id, card);
    this.#address(card);
    return card;
  }

  #fill(card, call, isOwn) {
    card.node.dataset.state = call.state;
    card.fields.own.hidden = !isOwn;
    card.listen.disabled = card.end.disabled = card.attach.disabled = call.state === "closed";
    setText(card.fields.facts, [call.state, call.transport, clock(call.seconds), call.model].filter(Boolean).join(" · "));
    const { peer } = call;
    setText(card.fields.peer, peer ? `${count(peer.packets)} packets, ${count(peer.lost)} lost, jitter ${milliseconds(peer.jitter_ms ?? 0)}` : "");
    card.listeners.replaceChildren(...call.listeners.map((listener) => this.#listener(listener)));
  }

  #listener({ role, audio, backlog_bytes, dropped_ms }) {
    const isBehind = backlog_bytes > 0 || dropped_ms > 0;
    return element(
      "li",
      { className: isBehind ? "behind" : "" },
      element("b", {}, role),
      element("span", {}, audio),
      element("span", {}, `backlog ${bytes(backlog_bytes)}`),
      element("span", { className: dropped_ms ? "warn" : "" }, `dropped ${milliseconds(dropped_ms)}`),
    );
  }

  #address(card) {
    const url = socketAddress("v1/realtime");
    url.search = new URLSearchParams({ call_id: card.id, audio: this.#parts.audio.value });
    card.url = url.href;
    setText(card.fields.url, url.pathname + url.search);
    card.fields.url.title = url.href;
  }

  #command(url) {
    return this.#key() ? `websocat -H "Authorization: Bearer $BRIDGE_API_KEY" "${url}"` : `python -m websockets "${url}"`;
  }

  async #hangUp(id, button) {
    if (id !== this.#own() && !(await confirmHangUp(id))) return;
    button.disabled = true;
    try {
      await hangUpCall(id, this.#key());
    } catch (error) {
      setText(this.#parts.total, error.message);
      this.#parts.total.classList.add("bad");
    }
    this.refresh();
  }

  #attach(id) {
    const listener = new Attached(id, this.#parts.audio.value, this.#key(), () => {
      this.#attached -= 1;
      this.#parts.attachedTitle.hidden = this.#attached === 0;
      this.refresh();
    });
    this.#attached += 1;
    this.#parts.attachedTitle.hidden = false;
    this.#parts.attached.append(listener.node);
    listener.node.scrollIntoView({ block: "nearest" });
    setTimeout(() => this.refresh(), 300);
  }
}

/** One WebSocket listener in this page: counts what it gets. */
class Attached {
  #format;
  #socket;
  #onGone;
  #state = "connecting";
  #events = 0;
  #ms = { caller: 0, answer: 0 };
  #drops = 0;
  #droppedMs = 0;
  #timer;
  #fields;

  constructor(callId, format, key, onGone) {
    this.#format = format;
    this.#onGone = onGone;
    this.#fields = Object.fromEntries(["state", "events", "caller", "answer", "drops"].map((name) => [name, element("dd", {})]));
    const words = { events: "Events", caller: "Caller's sound", answer: "Answer's sound", drops: "Dropped" };
    const figures = Object.entries(words).map(([name, word]) => element("div", {}, element("dt", {}, word), this.#fields[name]));
    this.#fields.state = element("span", { className: "facts", role: "status" });
    this.#fields.button = element("button", { type: "button", className: "small", onclick: () => this.#button() }, "Detach");
    this.node = element(
      "li",
      { className: "attached", data: { call: callId } },
      element("div", { className: "line" }, element("span", { className: "name" }, callId), element("span", { className: "own" }, format), element("span", { className: "grow" }), this.#fields.button),
      this.#fields.state,
      element("dl", { className: "figures" }, ...figures),
    );
    const url = socketAddress("v1/realtime");
    url.search = new URLSearchParams({ call_id: callId, audio: format });
    // A browser can put no header on a WebSocket; the protocol's way round is a subprotocol.
    this.#socket = new WebSocket(url, key ? ["realtime", `openai-insecure-api-key.${key}`] : []);
    this.#socket.onopen = () => (this.#state = "attached");
    this.#socket.onmessage = ({ data }) => this.#receive(data);
    this.#socket.onclose = ({ code, reason }) => {
      const refused = this.#state === "connecting";
      this.#state = this.#state === "detached" ? "detached" : refused ? "refused: the call may be over, or the key is missing" : `closed ${code}${reason ? `: ${reason}` : ""}`;
      setText(this.#fields.button, "Remove");
      this.node.dataset.state = "closed";
      clearInterval(this.#timer);
      this.#show();
    };
    this.#timer = setInterval(() => this.#show(), SHOW_MS);
    this.#show();
  }

  #receive(data) {
    this.#events += 1;
    let event;
    try {
      event = JSON.parse(data);
    } catch {
      return;
    }
    const [track, field] = TRACK_OF[event.type] ?? [];
    const bytesPerMs = BYTES_PER_MS[this.#format];
    if (track && bytesPerMs && event[field]) this.#ms[track] += base64Bytes(event[field]) / bytesPerMs;
    if (event.type === "bridge.listener.dropped") {
      this.#drops += 1;
      this.#droppedMs += event.audio_ms ?? 0;
    }
  }

  #button() {
    if (this.#socket.readyState < WebSocket.CLOSING) {
      this.#state = "detached";
      this.#socket.close(1000);
    } else {
      this.node.remove();
      this.#onGone();
    }
  }

  #show() {
    setText(this.#fields.state, this.#state);
    setText(this.#fields.events, count(this.#events));
    setText(this.#fields.caller, `${(this.#ms.caller / 1000).toFixed(1)} s`);
    setText(this.#fields.answer, `${(this.#ms.answer / 1000).toFixed(1)} s`);
    setText(this.#fields.drops, this.#drops ? `${milliseconds(this.#droppedMs)} in ${this.#drops}` : "none");
    this.#fields.drops.className = this.#drops ? "warn" : "";
  }
}

const plural = (number, word) => `${count(number)} ${word}${number === 1 ? "" : "s"}`;
const bytes = (value) => (value < 1000 ? `${value} B` : `${(value / 1000).toFixed(1)} kB`);

function base64Bytes(text) {
  const padding = text.endsWith("==") ? 2 : text.endsWith("=") ? 1 : 0;
  return (text.length * 3) / 4 - padding;
}
