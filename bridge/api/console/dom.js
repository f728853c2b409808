/** Making elements, copying text, and saying numbers the same way everywhere. */

/** A new element; `properties` are set as DOM properties, `data` as data attributes, `aria-*` and `role` as attributes. */
export function element(tag, properties = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name === "data") Object.assign(node.dataset, value);
    else if (name.startsWith("aria-") || name === "role") node.setAttribute(name, value);
    else node[name] = value;
  }
  node.append(...children);
  return node;
}

/** Sets text only when it differs, so that selections and screen readers are left in peace. */
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** Copies text and says so on the button for a moment. Works on plain http too, where there is no clipboard API. */
export async function copyText(text, button) {
  let done = true;
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const area = element("textarea", { value: text, className: "hidden" });
    document.body.append(area);
    area.select();
    done = document.execCommand("copy");
    area.remove();
    button.focus({ preventScroll: true });
  }
  button.dataset.said = done ? "copied" : "not copied";
  setTimeout(() => delete button.dataset.said, 1200);
}

const END_PX = 40; // this close to the end counts as being there

/**
 * Keeps the end of a growing pane in sight until the reader scrolls up, and again once they are back at the end.
 * Only scrolling up lets go: the pane may have grown between our scrolling and the event that tells of it.
 */
export class Tail {
  isHeld = true;
  #pane;
  #top = 0;
  #frame = 0;

  constructor(pane, onChange = () => {}) {
    this.#pane = pane;
    const look = () => {
      const { scrollTop, scrollHeight, clientHeight } = pane;
      const was = this.isHeld;
      if (scrollHeight - scrollTop - clientHeight < END_PX) this.isHeld ||= scrollTop > this.#top;
      else if (scrollTop < this.#top) this.isHeld = false;
      this.#top = scrollTop;
      if (was !== this.isHeld) onChange(this.isHeld);
    };
    pane.addEventListener("scroll", look, { passive: true });
    onResize([pane], () => this.follow());
  }

  /** Scrolls before the next frame is drawn, if the end is held: one layout, however many calls. */
  follow() {
    if (!this.isHeld || this.#frame) return;
    this.#frame = requestAnimationFrame(() => {
      this.#frame = 0;
      if (this.isHeld) this.jump();
    });
  }

  /** For when the reader has found something to look at. */
  release() {
    this.isHeld = false;
  }

  jump() {
    this.isHeld = true;
    this.#pane.scrollTop = this.#pane.scrollHeight;
    this.#top = this.#pane.scrollTop;
  }
}

/** Calls the function whenever the size of any of the nodes changes. */
export function onResize(nodes, callback) {
  const observer = new ResizeObserver(callback);
  nodes.forEach((node) => observer.observe(node));
}

export const count = (value) => Number(value || 0).toLocaleString("en");

/** 0 → "0 ms", 0.42 → "0.4 ms", 36.4 → "36 ms", 2400 → "2.4 s" */
export function milliseconds(value) {
  if (value >= 1000) return `${(value / 1000).toFixed(1)} s`;
  return `${value > 0 && value < 10 ? value.toFixed(1) : Math.round(value)} ms`;
}

/** 62 → "1:02" */
export function clock(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, "0")}`;
}

/** An address on this daemon, wherever the page is served from. */
export const address = (path) => new URL(path, document.baseURI);

/** The same for WebSockets. */
export function socketAddress(path) {
  const url = address(path);
  url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
  return url;
}

/** What went wrong with an HTTP answer, in the server's own words where it has any. */
export async function problemOf(response) {
  const body = await response.text().catch(() => "");
  try {
    const { message } = JSON.parse(body).error;
    if (message) return message;
  } catch {
    // Not the protocol's error object: a proxy may have answered.
  }
  return `The server answered ${response.status} ${response.statusText}`.trim();
}

export const authorization = (key) => (key ? { Authorization: `Bearer ${key}` } : {});
