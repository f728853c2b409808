/** The Operations page: the last hour, the calls with what to do about them, the upstreams, and what was refused. */

import { hangUpCall } from "./call.js";
import { Chart } from "./charts.js";
import { confirmHangUp } from "./confirm.js";
import { address, authorization, clock, copyText, count, element, milliseconds, problemOf, setText } from "./dom.js";

const POLL_MS = 5_000;
const LIMIT_MS = 8_000;
const HOUR_S = 3_600;
const MOST_CALLS = 100;
const SEARCH_AFTER_MS = 250;
const ENDED_EVERY_MS = 15_000;

const megabytes = (value) => `${Math.round(value / 1e6)} MB`;
const percent = (value) => `${value > 0 && value < 10 ? value.toFixed(1) : Math.round(value)} %`;
const part = (value, of) => (of ? (100 * value) / of : null);
const sum = (values) => Object.values(values).reduce((total, value) => total + value, 0);

const CHARTS = [
  { title: "Calls", meaning: "Running calls", series: [{ name: "calls", of: ({ calls }) => calls }], format: count, floor: 4 },
  { title: "Wait for answers", meaning: "From the end of the caller's words to the first sound of the answer", series: [{ name: "wait", of: ({ answer_ms }) => answer_ms }], format: milliseconds, floor: 1000 },
  {
    title: "Callers' packets",
    meaning: "WebRTC callers' packets that never arrived, or arrived too late to be played",
    series: [
      { name: "lost", of: ({ packets, lost }) => part(lost, packets + lost) },
      { name: "late", of: ({ packets, lost, late }) => part(late, packets + lost) },
    ],
    format: percent,
    floor: 5,
  },
  {
    title: "Sound",
    meaning: "Callers' sound, per second, that was made up for packets that WebRTC callers lost, or that carriers delivered late",
    series: [
      { name: "guessed", of: ({ concealed_ms }, every) => concealed_ms / every },
      { name: "late", of: ({ telephone_late_ms }, every) => telephone_late_ms / every },
    ],
    format: milliseconds,
    floor: 50,
  },
  {
    title: "Round trip",
    meaning: "To WebRTC callers",
    series: [
      { name: "mean", isPlain: true, of: ({ round_trip_ms }) => round_trip_ms },
      { name: "worst", of: ({ worst_round_trip_ms }) => worst_round_trip_ms },
    ],
    format: milliseconds,
    floor: 100,
  },
  { title: "Playback queue", meaning: "Answer still to be played, of the call that has most of it", series: [{ name: "queue", of: ({ queued_ms }) => queued_ms }], format: milliseconds, floor: 1000 },
  { title: "Event loop late", meaning: "Lateness of the event loop: what each call has to bear; of several workers, the worst", series: [{ name: "late", of: ({ loop_lag_ms }) => loop_lag_ms }], format: milliseconds, floor: 20 },
  { title: "Processor", meaning: "Of one core; of several workers, all together", series: [{ name: "busy", of: ({ processor_percent }) => processor_percent }], format: percent, floor: 25 },
  { title: "Memory", meaning: "Resident memory of the process, or of all workers", series: [{ name: "memory", of: ({ memory_bytes }) => memory_bytes || null }], format: megabytes, floor: 200e6 },
  { title: "Refused", meaning: "Requests, connections of carriers and connections that were refused, in five seconds", series: [{ name: "refused", of: ({ refused }) => sum(refused) }], format: count, floor: 4 },
];

/** Where the log may be, and the command that finds a call's lines there. */
const LOGS = {
  "systemd journal": (id, since) => `journalctl -u bridge -o cat --since @${since} | grep -F '${id}'`,
  "Docker Compose": (id, since) => `docker compose logs --no-log-prefix --since ${new Date(since * 1000).toISOString()} bridge | grep -F '${id}'`,
  Kubernetes: (id, since) => `kubectl logs -l app.kubernetes.io/name=bridge --tail=-1 --since-time=${new Date(since * 1000).toISOString()} | grep -F '${id}'`,
  "a file": (id) => `grep -F '${id}' bridge.log`,
};

/** What it means that a check of `/readyz` is well. */
const WELL = { draining: "takes new calls", load: "in time", upstream: "upstream well", recordings: "room for recordings" };

const RUNNING = ["Call", "From", "State", "Time", "Answered by", "Lost", "Late", "Concealed", "Round trip", "Queue", "Listeners", ""];
const ENDED = ["Call", "From", "Ended", "Time", "Result", "Reason", "Answers", "Lost", "Late", "Concealed", "Set-up", ""];

export class Operations {
  #part;
  #key;
  #listen;
  #onStatus;
  #isShown = false;
  #polling = false;
  #timer = null;
  #searching = null;
  #charts;
  #samples = [];
  #everyS = 5;
  #offsetS = 0; // the server's clock minus ours
  #startedAt = null;
  #processes = new Set(); // when those were started that have answered
  #areSeveral = false;
  #moment = null; // the time of a sample that is looked at
  #wantsEnded = false;
  #endedAt = -Infinity;
  #rows = new Map(); // call id → { row, cells, more }
  #log = Object.keys(LOGS)[0];

  /** `key()` gives the API key, `listen(id)` begins to listen, `onStatus(status, path)` hears how requests were answered. */
  constructor({ key, listen, onStatus }) {
    this.#part = (id) => document.getElementById(id);
    this.#key = key;
    this.#listen = listen;
    this.#onStatus = onStatus;
    this.#charts = CHARTS.map((chart) => new Chart({ ...chart, series: chart.series.map((one) => ({ ...one, of: (sample) => one.of(sample, this.#everyS) })) }));
    this.#part("charts").append(...this.#charts.map(({ node }) => node));
    this.#part("charts").addEventListener("pointermove", (move) => this.#point(move));
    this.#part("charts").addEventListener("pointerleave", () => this.#lookAt(null));
    this.#part("moment").addEventListener("input", ({ target }) => this.#lookAt(Number(target.value) >= this.#samples.length - 1 ? null : this.#samples[Number(target.value)]));
    this.#part("hour-table").addEventListener("toggle", () => this.#table());
    this.#part("show-running").addEventListener("click", () => this.#choose(false));
    this.#part("show-ended").addEventListener("click", () => this.#choose(true));
    this.#part("find-call").addEventListener("input", () => {
      clearTimeout(this.#searching);
      this.#searching = setTimeout(() => this.refresh({ again: true }), SEARCH_AFTER_MS);
    });
    document.addEventListener("visibilitychange", () => this.refresh());
    head(this.#part("upstreams"), ["Name", "Now", "Dials", "Failed", "Lost", "Renewed", "Given up"]);
    head(this.#part("refusals"), ["Reason", "Last hour", "Since the start"]);
    this.#choose(false);
  }

  show(isShown) {
    this.#isShown = isShown;
    if (isShown) this.refresh({ again: true });
    else clearTimeout(this.#timer);
  }

  /** The body of `/readyz`, or null. */
  ready(report) {
    const checks = report?.checks ?? [];
    this.#part("checks").replaceChildren(
      ...checks.map(({ name, is_ok, reason }) => element("li", { className: is_ok ? "ok" : "wrong" }, is_ok ? (WELL[name] ?? `${name} well`) : element("b", {}, reason))),
    );
  }

  /** `again`: the ended calls too, however lately they were asked for. */
  async refresh({ again = false } = {}) {
    if (again) this.#endedAt = -Infinity;
    clearTimeout(this.#timer);
    if (!this.#isShown || document.hidden) return;
    if (this.#polling) {
      this.#timer = setTimeout(() => this.refresh(), SEARCH_AFTER_MS);
      return;
    }
    this.#polling = true;
    try {
      await Promise.all([this.#askLoad(), this.#askCalls()]);
      this.#complain("");
    } catch (error) {
      this.#complain(error instanceof TypeError || error.name === "TimeoutError" ? "The server does not answer: what stands here is what it said last." : error.message);
    }
    this.#polling = false;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.refresh(), POLL_MS);
  }

  #complain(text) {
    setText(this.#part("ops-problem"), text);
    this.#part("ops-problem").hidden = !text;
  }

  async #ask(path, query = {}) {
    const url = address(path);
    url.search = new URLSearchParams(query);
    const response = await fetch(url, { headers: authorization(this.#key()), signal: AbortSignal.timeout(LIMIT_MS) });
    this.#onStatus(response.status, path);
    if (!response.ok) throw new Error(await problemOf(response));
    return response.json();
  }

  // The last hour

  async #askLoad() {
    const last = this.#samples.at(-1);
    const report = await this.#ask("v1/load", last ? { after: last.at } : {});
    this.#areSeveral ||= report.started_at !== this.#startedAt && this.#processes.has(report.started_at);
    this.#processes.add(report.started_at);
    if (report.started_at !== this.#startedAt && last) {
      this.#samples = []; // it was started again, or it is another one
      await this.#askLoad();
      return;
    }
    this.#startedAt = report.started_at;
    this.#everyS = report.every_s;
    this.#offsetS = report.now - Date.now() / 1000;
    this.#samples.push(...report.samples);
    this.#samples = this.#samples.filter(({ at }) => at > report.now - HOUR_S);
    const several = this.#areSeveral ? "several processes answer here in turn: open the address of one; " : "";
    const workers = report.workers > 1 ? `, ${report.workers} workers` : "";
    setText(this.#part("uptime"), `${several}bridge ${report.version}, up ${ago(report.now - report.started_at)}${workers}`);
    this.#draw();
    this.#upstreams(report.daemon.targets);
    this.#refusals(report.refused);
  }

  #draw() {
    const nowS = Date.now() / 1000 + this.#offsetS;
    for (const chart of this.#charts) chart.show(this.#samples, nowS);
    const slider = this.#part("moment");
    slider.disabled = this.#samples.length < 2;
    slider.max = Math.max(0, this.#samples.length - 1);
    this.#lookAt(this.#samples.find(({ at }) => at === this.#moment) ?? null);
    this.#table();
  }

  #point({ clientX, target }) {
    const chart = this.#charts.find(({ node }) => node.contains(target));
    if (!chart || this.#samples.length < 2) return;
    const wanted = Date.now() / 1000 + this.#offsetS - HOUR_S * (1 - chart.at(clientX));
    this.#lookAt(this.#samples.reduce((best, sample) => (Math.abs(sample.at - wanted) < Math.abs(best.at - wanted) ? sample : best)));
  }

  #lookAt(sample) {
    this.#moment = sample?.at ?? null;
    const words = sample ? time(sample.at) : "now";
    const slider = this.#part("moment");
    slider.value = sample ? this.#samples.indexOf(sample) : this.#samples.length - 1;
    slider.setAttribute("aria-valuetext", words);
    setText(this.#part("moment-said"), words);
    for (const chart of this.#charts) chart.point(sample);
  }

  #table() {
    const details = this.#part("hour-table");
    if (!details.open) return;
    const table = details.querySelector("table");
    if (!table.tHead.rows.length) head(table, ["Time", ...CHARTS.map(({ title }) => title)]);
    const minutes = new Map();
    for (const sample of this.#samples) minutes.set(Math.floor(sample.at / 60), sample); // the last of each
    const rows = [...minutes.values()].reverse().map((sample) => {
      const values = CHARTS.map(({ series, format }) => series.map(({ of }) => said(of(sample, this.#everyS), format)).join(" / "));
      return element("tr", {}, element("th", { scope: "row" }, time(sample.at).slice(0, 5)), ...values.map((value) => element("td", {}, value)));
    });
    table.tBodies[0].replaceChildren(...rows);
  }

  // Upstreams and refusals

  #upstreams(targets) {
    this.#part("upstreams-empty").hidden = targets.length > 0;
    this.#part("upstreams").hidden = targets.length === 0;
    this.#part("upstreams").tBodies[0].replaceChildren(
      ...targets.map((target) => {
        const state = target.down ? [`down: ${words(target.down)}`, "bad"] : target.dials === 0 ? ["not dialled yet", "dim"] : target.dials === target.failures ? ["has not answered", "warn"] : ["answers", "good"];
        const figures = [target.dials, target.failures, target.lost, target.renewals, target.given_up];
        return element("tr", {}, element("th", { scope: "row" }, target.name), element("td", { className: state[1] }, state[0]), ...figures.map((value) => element("td", { className: "number" }, count(value))));
      }),
    );
  }

  #refusals(total) {
    const hour = {};
    for (const { refused } of this.#samples) for (const [reason, times] of Object.entries(refused)) hour[reason] = (hour[reason] ?? 0) + times;
    const reasons = Object.keys(total).sort((a, b) => (hour[b] ?? 0) - (hour[a] ?? 0) || total[b] - total[a]);
    this.#part("refusals-empty").hidden = reasons.length > 0;
    this.#part("refusals").hidden = reasons.length === 0;
    this.#part("refusals").tBodies[0].replaceChildren(
      ...reasons.map((reason) => element("tr", {}, element("th", { scope: "row", className: "mono" }, reason), element("td", { className: "number" }, count(hour[reason] ?? 0)), element("td", { className: "number" }, count(total[reason])))),
    );
  }

  // Calls

  #choose(wantsEnded) {
    this.#wantsEnded = wantsEnded;
    this.#part("show-running").setAttribute("aria-pressed", String(!wantsEnded));
    this.#part("show-ended").setAttribute("aria-pressed", String(wantsEnded));
    this.#rows.clear();
    this.#part("ops-calls").tBodies[0].replaceChildren();
    head(this.#part("ops-calls"), wantsEnded ? ENDED : RUNNING);
    setText(this.#part("ops-calls-count"), "");
    this.#part("ops-calls-empty").hidden = true;
    this.refresh({ again: true });
  }

  async #askCalls() {
    const wantsEnded = this.#wantsEnded;
    if (wantsEnded && performance.now() - this.#endedAt < ENDED_EVERY_MS) return;
    const wanted = this.#part("find-call").value.trim();
    const query = { ...(wanted && { q: wanted }), ...(wantsEnded && { ended: "1" }) };
    const { data } = await this.#ask("v1/calls", query);
    if (wantsEnded !== this.#wantsEnded) return;
    if (wantsEnded) this.#endedAt = performance.now();
    this.#showCalls(data, wanted);
  }

  #showCalls(calls, wanted) {
    const shown = calls.slice(0, MOST_CALLS);
    const ids = new Set(shown.map(({ id }) => id));
    for (const [id, { row, more }] of this.#rows) {
      if (ids.has(id)) continue;
      if (row.contains(document.activeElement)) this.#part(this.#wantsEnded ? "show-ended" : "show-running").focus(); // its call is over
      row.remove();
      more?.remove();
      this.#rows.delete(id);
    }
    const body = this.#part("ops-calls").tBodies[0];
    let next = body.firstElementChild;
    for (const call of shown) {
      const known = this.#rows.get(call.id) ?? this.#makeRow(call);
      this.#fillRow(known, call);
      if (known.row === next) {
        next = known.row.nextElementSibling;
      } else {
        body.insertBefore(known.row, next);
        if (known.more) body.insertBefore(known.more, next);
      }
      if (known.more && next === known.more) next = known.more.nextElementSibling;
    }
    this.#part("ops-calls").hidden = shown.length === 0;
    this.#part("ops-calls-empty").hidden = shown.length > 0;
    const kind = this.#wantsEnded ? "ended" : "running";
    setText(this.#part("ops-calls-empty"), wanted ? `No ${kind} call is found by “${wanted}”.` : this.#wantsEnded ? "No call has ended yet." : "No calls run.");
    setText(this.#part("ops-calls-count"), calls.length > MOST_CALLS ? `${count(calls.length)} ${kind}, first ${MOST_CALLS} shown` : `${count(calls.length)} ${kind}`);
  }

  #makeRow(call) {
    const more = element("button", { type: "button", className: "small", "aria-expanded": "false", "aria-label": `Log and figures of ${call.id}`, onclick: () => this.#open(known) }, "Log");
    const buttons = [more];
    if (!this.#wantsEnded) {
      buttons.unshift(element("button", { type: "button", className: "small", "aria-label": `Listen to ${call.id}`, onclick: () => this.#listen(call.id) }, "Listen"));
      buttons.push(element("button", { type: "button", className: "end small", "aria-label": `Hang up ${call.id}`, onclick: ({ currentTarget }) => this.#hangUp(call.id, currentTarget) }, "Hang up"));
    }
    const id = element("th", { scope: "row", className: "mono" }, call.id);
    const cells = (this.#wantsEnded ? ENDED : RUNNING).slice(1, -1).map(() => element("td"));
    const known = { call, row: element("tr", { data: { id: call.id } }, id, ...cells, element("td", { className: "actions" }, element("div", {}, ...buttons))), cells, button: more, more: null };
    this.#rows.set(call.id, known);
    return known;
  }

  #fillRow(known, call) {
    known.call = call;
    const leg = call.peer ?? {};
    const all = (leg.packets ?? 0) + (leg.lost ?? 0);
    const quality = [
      leg.packets === undefined ? "–" : percent(part(leg.lost, all) ?? 0),
      leg.late !== undefined ? count(leg.late) : leg.input_late_ms !== undefined ? milliseconds(leg.input_late_ms) : "–",
      leg.concealed_ms === undefined ? "–" : milliseconds(leg.concealed_ms),
    ];
    const from = call.metadata?.from ?? call.metadata?.caller ?? call.transport;
    const who = from === call.transport ? from : `${from} (${call.transport})`;
    const said = this.#wantsEnded
      ? [who, time(call.ended_at), clock(call.seconds), words(call.result), words(call.reason), count(call.upstream.answers), ...quality, call.setup_ms === null ? "–" : milliseconds(call.setup_ms)]
      : [who, call.state, clock(call.seconds), call.upstream.name || "nobody yet", ...quality, leg.round_trip_ms == null ? "–" : milliseconds(leg.round_trip_ms), leg.queued_ms === undefined ? "–" : milliseconds(leg.queued_ms), count(call.listeners.filter(({ role }) => role === "controller" || role === "observer").length)];
    said.forEach((value, index) => setText(known.cells[index], value));
    known.cells[this.#wantsEnded ? 5 : 4].className = part(leg.lost, all) > 5 ? "warn" : "";
    if (this.#wantsEnded) known.cells[3].className = call.result === "success" ? "good" : "bad";
    else known.cells[1].className = call.state === "lost" ? "warn" : "";
    if (known.figures) this.#fillFigures(known);
  }

  async #hangUp(id, button) {
    if (!(await confirmHangUp(id))) return;
    button.disabled = true;
    try {
      await hangUpCall(id, this.#key());
    } catch (error) {
      button.disabled = false;
      this.#complain(`${id} was not hung up: ${error.message}`);
      return;
    }
    this.refresh();
  }

  // What is in the log, and all figures

  #open(known) {
    const isOpen = known.more !== null;
    known.button.setAttribute("aria-expanded", String(!isOpen));
    if (isOpen) {
      known.more.remove();
      known.more = known.figures = null;
      return;
    }
    const { call } = known;
    const ids = { "call id": call.id, ...(call.session_id !== call.id && { "session id": call.session_id }), ...(call.key_id !== "api" && { "key id": call.key_id }) };
    const where = element("select", { "aria-label": "Where the log is", onchange: ({ target }) => {
      this.#log = target.value;
      setText(command, this.#command(call));
    } }, ...Object.keys(LOGS).map((name) => new Option(name, name, false, name === this.#log)));
    const command = element("code", {}, this.#command(call));
    const copy = element("button", { type: "button", className: "small", onclick: () => copyText(command.textContent, copy) }, "Copy command");
    known.figures = element("dl", { className: "all-figures" });
    known.more = element(
      "tr",
      { className: "more" },
      element(
        "td",
        { colSpan: known.cells.length + 2 },
        element("p", { className: "dim" }, "In the log each line of this call bears its call id; call.opened has the session id, the carrier's ids and the caller's address beside it."),
        element("ul", { className: "ids" }, ...Object.entries(ids).map(([name, id]) => {
          const button = element("button", { type: "button", className: "quiet small", "aria-label": `Copy the ${name}`, onclick: () => copyText(id, button) }, "Copy");
          return element("li", {}, `${name} `, element("code", {}, id), button);
        })),
        element("div", { className: "command" }, where, command, copy),
        known.figures,
      ),
    );
    this.#fillFigures(known);
    known.row.after(known.more);
  }

  #command({ id, started_at }) {
    return LOGS[this.#log](id, Math.floor(started_at) - 60);
  }

  #fillFigures({ call, figures }) {
    const all = { model: call.model, ...call.metadata, ...call.peer, "dropped events": call.dropped_events, lines: call.upstream.lines, "lines lost": call.upstream.lost };
    const shown = Object.entries(all).filter(([, value]) => value !== null && value !== "");
    figures.replaceChildren(...shown.map(([name, value]) => element("div", {}, element("dt", {}, words(name)), element("dd", {}, typeof value === "number" ? String(Math.round(value * 10) / 10) : String(value)))));
  }
}

function head(table, names) {
  table.tHead.replaceChildren(element("tr", {}, ...names.map((name) => (name ? element("th", { scope: "col" }, name) : element("td", {}, element("span", { className: "hidden" }, "What to do"))))));
}

const words = (slug) => String(slug ?? "").replaceAll("_", " ");
const said = (value, format) => (value === null ? "–" : format(value));
const time = (seconds) => new Date(seconds * 1000).toLocaleTimeString("en-GB");

function ago(seconds) {
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 86_400) return `${Math.floor(seconds / 3600)} h ${Math.floor((seconds % 3600) / 60)} min`;
  return `${Math.floor(seconds / 86_400)} d ${Math.floor((seconds % 86_400) / 3600)} h`;
}
