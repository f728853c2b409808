/**
 * The event list: every event of the call, newest last, at most 2,000 of them.
 *
 * Events wait in a queue and reach the page ten times a second, so a burst of deltas costs one layout. Rows stand in
 * groups, which the browser skips while out of sight (`content-visibility`, with the height told by us) and which leave
 * as a whole when the list is full. Tab reaches the list as one stop; arrow keys move from row to row.
 */

import { Tail, copyText, count, element, setText } from "./dom.js";

const MOST_ROWS = 2000;
const GROUP_ROWS = 100;
const FLUSH_MS = 100;
const LONGEST_STRING = 300; // longer ones (base64 mostly) are cut when shown, never when copied

export class EventList {
  #list;
  #parts;
  #rows = []; // { node, from, type, time, event or text }, oldest first
  #queue = [];
  #timer = null;
  #paused = false;
  #tail;
  #since = performance.now();
  #wanted = () => true;

  /** `parts`: the elements list, filter, pause, clear, copy, newest, empty, total. */
  constructor(parts) {
    this.#parts = parts;
    this.#list = parts.list;
    parts.filter.addEventListener("input", () => this.#refilter());
    parts.pause.addEventListener("click", () => this.#setPaused(!this.#paused));
    parts.clear.addEventListener("click", () => this.clear());
    parts.copy.addEventListener("click", () => copyText(this.#lines(), parts.copy));
    this.#tail = new Tail(this.#list, (isHeld) => isHeld && (parts.newest.hidden = true));
    parts.newest.addEventListener("click", () => this.#toEnd());
    this.#list.addEventListener("click", ({ target }) => this.#open(target.closest("button")?.parentElement));
    this.#list.addEventListener("keydown", (press) => this.#key(press));
  }

  /** Times are counted from here on. */
  restart() {
    this.#since = performance.now();
  }

  /** `from` is "client" or "server". */
  add(from, event) {
    this.#enqueue({ from, type: String(event.type ?? "(no type)"), event });
  }

  /** A step of the call that is no event; not counted, not copied. */
  note(text) {
    this.#enqueue({ from: "note", type: "", text });
  }

  clear() {
    this.#rows = [];
    this.#queue = [];
    this.#list.replaceChildren();
    if (this.#paused) setText(this.#parts.pause, "Resume (0)");
    this.#toEnd();
    this.#sayHowMany();
  }

  #enqueue(row) {
    row.time = (performance.now() - this.#since) / 1000;
    this.#queue.push(row);
    if (this.#queue.length > MOST_ROWS) this.#queue.shift();
    this.#timer ??= setTimeout(() => {
      this.#timer = null;
      this.#flush();
    }, FLUSH_MS);
  }

  #flush() {
    if (this.#paused) return setText(this.#parts.pause, `Resume (${count(this.#queue.length)})`);
    for (const row of this.#queue) {
      row.node = this.#draw(row);
      row.node.hidden = !this.#wanted(row);
      let group = this.#list.lastElementChild;
      if (!group || group.childElementCount >= GROUP_ROWS) this.#list.append((group = element("ol", { role: "presentation" })));
      group.append(row.node);
    }
    this.#rows.push(...this.#queue);
    this.#queue = [];
    while (this.#rows.length > MOST_ROWS) {
      this.#rows.splice(0, GROUP_ROWS);
      this.#list.firstElementChild.remove();
    }
    this.#size();
    this.#sayHowMany();
    if (this.#tail.isHeld) this.#tail.jump();
    else this.#parts.newest.hidden = false;
  }

  /** Tells each group how many rows it shows: its height while the browser skips it. */
  #size() {
    for (const group of this.#list.children) {
      const shown = group.querySelectorAll(":scope > li:not([hidden])").length;
      if (group.dataset.shown === String(shown)) continue;
      group.dataset.shown = shown;
      group.style.setProperty("--shown", shown);
    }
  }

  #draw({ from, type, time, event, text }) {
    if (from === "note") {
      return element("li", { className: "note", role: "listitem" }, element("span", { className: "time" }, offset(time)), element("span", { className: "summary" }, text));
    }
    const button = element(
      "button",
      { type: "button", tabIndex: -1, "aria-expanded": "false" },
      element("span", { className: "time" }, offset(time)),
      element("span", { className: "arrow", role: "img", "aria-label": from === "client" ? "sent" : "received" }, from === "client" ? "→" : "←"),
      nameOf(type),
      element("span", { className: "summary" }, summary(event)),
    );
    const kind = /(^error$|\.failed$|\.dropped$)/.test(type) ? " bad" : type.endsWith(".delta") ? " delta" : "";
    return element("li", { className: `event ${from}${kind}`, role: "listitem", data: { type } }, button);
  }

  #open(node) {
    if (!node) return;
    const button = node.firstElementChild;
    const isOpen = button.getAttribute("aria-expanded") === "true";
    button.setAttribute("aria-expanded", String(!isOpen));
    if (isOpen) {
      node.lastElementChild.remove();
      node.parentElement.classList.toggle("opened", node.parentElement.querySelector("pre") !== null);
      return;
    }
    node.parentElement.classList.add("opened");
    this.#tail.release();
    const row = this.#rows.find((candidate) => candidate.node === node);
    const cut = (_, value) => (typeof value === "string" && value.length > LONGEST_STRING ? `${value.slice(0, LONGEST_STRING)}… (${count(value.length)} characters)` : value);
    node.append(element("pre", { tabIndex: 0 }, JSON.stringify(row.event, cut, 2)));
    node.scrollIntoView({ block: "nearest" });
    button.scrollIntoView({ block: "nearest" }); // of a long one, its beginning
  }

  #key(press) {
    const steps = { ArrowDown: 1, ArrowUp: -1, PageDown: 12, PageUp: -12, Home: -Infinity, End: Infinity };
    const step = steps[press.key];
    if (step === undefined || press.target.tagName === "PRE" || press.ctrlKey || press.metaKey || press.altKey) return;
    const shown = this.#rows.filter((row) => row.event && !row.node.hidden).map((row) => row.node.firstElementChild);
    if (!shown.length) return;
    press.preventDefault();
    const current = shown.indexOf(press.target);
    const start = current < 0 ? (step > 0 ? -1 : shown.length) : current;
    shown[Math.min(shown.length - 1, Math.max(0, start + step))].focus();
  }

  #toEnd() {
    this.#tail.jump();
    this.#parts.newest.hidden = true;
  }

  #setPaused(paused) {
    this.#paused = paused;
    this.#parts.pause.setAttribute("aria-pressed", String(paused));
    setText(this.#parts.pause, paused ? "Resume (0)" : "Pause");
    if (!paused) this.#flush();
  }

  #refilter() {
    this.#wanted = filterOf(this.#parts.filter.value);
    for (const row of this.#rows) row.node.hidden = !this.#wanted(row);
    this.#size();
    this.#sayHowMany();
    if (this.#tail.isHeld) this.#toEnd();
  }

  #sayHowMany() {
    const events = this.#rows.filter((row) => row.event);
    const shown = events.filter((row) => !row.node.hidden).length;
    setText(this.#parts.total, events.length ? (shown === events.length ? count(shown) : `${count(shown)} of ${count(events.length)}`) : "");
    this.#parts.empty.hidden = this.#rows.length > 0;
  }

  #lines() {
    return this.#rows
      .filter((row) => row.event && !row.node.hidden)
      .map(({ time, from, event }) => JSON.stringify({ seconds: Number(time.toFixed(3)), from, event }) + "\n")
      .join("");
  }
}

/** Words are sought in the type, any of them will do; `word*` must begin it; `!word` leaves out. Notes go with no filter only. */
export function filterOf(text) {
  const words = text.toLowerCase().split(/[\s,]+/).filter((word) => word && word !== "!");
  const matches = (word, type) => (word.endsWith("*") ? type.startsWith(word.slice(0, -1)) : type.includes(word));
  const leaveOut = words.filter((word) => word.startsWith("!")).map((word) => word.slice(1));
  const lookFor = words.filter((word) => !word.startsWith("!"));
  return ({ type, event }) => {
    if (!event) return words.length === 0;
    const name = type.toLowerCase();
    return !leaveOut.some((word) => matches(word, name)) && (!lookFor.length || lookFor.some((word) => matches(word, name)));
  };
}

/** The type in two pieces, so that a narrow row cuts the middle and keeps the telling end. */
function nameOf(type) {
  const cut = Math.max(0, type.lastIndexOf("."));
  return element("span", { className: "type" }, element("span", { className: "head" }, type.slice(0, cut)), element("span", {}, type.slice(cut)));
}

const offset = (seconds) => seconds.toFixed(3);
const quoted = (text) => (text ? `“${text}”` : "");

function ofItem(item = {}) {
  const parts = (item.content ?? []).map((part) => quoted(part.transcript ?? part.text) || part.type);
  return [item.role ?? item.type, item.name, item.status, ...parts, item.output].filter(Boolean).join(" · ");
}

function ofSession(session = {}) {
  const voice = session.audio?.output?.voice ?? session.voice;
  const turns = session.audio?.input?.turn_detection ?? session.turn_detection;
  const tools = session.tools?.length ? `${session.tools.length} tools` : "";
  return [session.model, voice?.id ?? voice, turns?.type, tools, quoted(session.instructions)].filter(Boolean).join(" · ");
}

function ofResponse(response = {}) {
  const tokens = response.usage?.total_tokens ? `${count(response.usage.total_tokens)} tokens` : "";
  const why = response.status_details?.error?.message ?? response.status_details?.reason;
  return [response.status, why, tokens, response.id].filter(Boolean).join(" · ");
}

/** One line that tells the events of a type apart. */
export function summary(event) {
  if (event.error) return [event.error.code, event.error.message].filter(Boolean).join(": ");
  if (event.session) return ofSession(event.session);
  if (event.response) return ofResponse(event.response);
  if (event.item) return ofItem(event.item);
  if (event.part) return quoted(event.part.transcript ?? event.part.text) || event.part.type;
  if (event.rate_limits) return event.rate_limits.map(({ name, remaining, limit }) => `${name} ${count(remaining)} of ${count(limit)}`).join(" · ") || "no limits";
  if (typeof event.audio === "string") return `${count(event.audio.length)} characters of base64`;
  if (typeof event.delta === "string") return event.delta.length > 200 ? `${count(event.delta.length)} characters` : quoted(event.delta);
  const text = event.transcript ?? event.text;
  if (text) return quoted(text);
  if (event.arguments !== undefined) return `${event.name ?? ""}(${event.arguments})`;
  const span = ["audio_start_ms", "audio_end_ms"].filter((name) => name in event).map((name) => `${name === "audio_start_ms" ? "from" : "at"} ${(event[name] / 1000).toFixed(2)} s`);
  const rest = Object.entries(event).filter(([name, value]) => !["type", "event_id", "audio_start_ms", "audio_end_ms", "content_index", "output_index"].includes(name) && value !== null && typeof value !== "object");
  return [...span, ...rest.map(([name, value]) => (name.endsWith("_id") ? value : `${name} ${value}`))].join(" · ");
}
