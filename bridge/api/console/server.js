/** How the server is, told by itself: ready, draining, not ready and why, or no answer at all; and whether a key is needed. */

import { address, setText } from "./dom.js";

const POLL_MS = 5_000;
const LIMIT_MS = 8_000;

export class Server {
  #node;
  #onReport;
  #timer = null;
  #polling = false;
  #answers = new Map(); // what was asked for → the status of its last answer
  #report = null;
  #silentSince = null;

  /** `node` says it; `onReport` gets the body of `/readyz`, or null where there was none. */
  constructor(node, { onReport = () => {} } = {}) {
    this.#node = node;
    this.#onReport = onReport;
    document.addEventListener("visibilitychange", () => this.refresh());
    this.refresh();
  }

  /** What was asked for with a key was answered so. */
  answered(status, what) {
    this.#answers.set(what, status);
    this.#show();
  }

  /** Another key is shown from now on. */
  forget() {
    this.#answers.clear();
    this.#show();
  }

  async refresh() {
    clearTimeout(this.#timer);
    if (document.hidden || this.#polling) return;
    this.#polling = true;
    try {
      const response = await fetch(address("readyz"), { signal: AbortSignal.timeout(LIMIT_MS) });
      this.#report = await response.json();
      this.#silentSince = null;
    } catch {
      this.#report = null;
      this.#silentSince ??= performance.now();
    }
    this.#polling = false;
    this.#show();
    this.#onReport(this.#report);
    this.#timer = setTimeout(() => this.refresh(), POLL_MS);
  }

  #show() {
    const [state, text] = this.#words();
    this.#node.dataset.state = document.documentElement.dataset.server = state;
    setText(this.#node, text);
  }

  #words() {
    if (!this.#report?.checks) {
      if (this.#silentSince === null) return ["unknown", "asking the server"];
      return ["silent", "no answer from the server; trying again"];
    }
    const wrong = this.#report.checks.filter(({ is_ok }) => !is_ok);
    if (wrong.some(({ name }) => name === "draining")) return ["draining", "draining: no new calls are taken"];
    const answers = [...this.#answers.values()];
    if (answers.includes(401)) return ["key", "key needed: enter it under Settings"];
    if (answers.includes(403)) return ["key", "an API key is needed: this one may not see all calls"];
    if (wrong.length) return ["unwell", `not ready: ${wrong.map(({ name }) => name).join(", ")}`];
    return ["ready", "ready"];
  }
}
