/**
 * The settings of this page's session as a form: for the next call, or for the one that runs.
 *
 * What is left empty is the server's business and is not sent. While a call runs the form shows what its session has,
 * and sends what was changed.
 */

import { setText } from "./dom.js";

export class SessionSettings {
  #field;
  #panel;
  #opener;
  #send;
  #onOpened;
  #chosen = {}; // for the next call: what was applied last
  #running = null; // the session of the call that runs, as the server told it
  #shown = {}; // the form's values when it was filled
  #sentId = null;

  /** `send(event)` sends an event to the call that runs, and is false without one. */
  constructor({ panel, opener, send, onOpened = () => {} }) {
    this.#panel = panel;
    this.#opener = opener;
    this.#send = send;
    this.#onOpened = onOpened;
    this.#field = (name) => panel.querySelector(`#${name}`);
    opener.addEventListener("click", () => (panel.hidden ? this.open() : this.close()));
    this.#field("session-close").addEventListener("click", () => this.close());
    panel.addEventListener("keydown", ({ key }) => key === "Escape" && this.close());
    this.#field("session-form").addEventListener("submit", (submit) => {
      submit.preventDefault();
      this.#apply();
    });
    this.#field("session-form").addEventListener("input", () => this.#refresh());
    this.#field("session-reset").addEventListener("click", () => this.#fill());
    this.#fill();
  }

  /** What the next call asks for; null for nothing. */
  get forNextCall() {
    return Object.keys(this.#chosen).length ? { type: "realtime", ...this.#chosen } : null;
  }

  open() {
    this.#onOpened();
    this.#panel.hidden = false;
    this.#opener.setAttribute("aria-expanded", "true");
    this.#field("s-instructions").focus();
  }

  close() {
    this.hide();
    this.#opener.focus();
  }

  /** Without taking the keyboard's focus. */
  hide() {
    this.#panel.hidden = true;
    this.#opener.setAttribute("aria-expanded", "false");
  }

  /** Events of the call that runs. */
  received(event) {
    if (event.type === "session.created" || event.type === "session.updated") {
      this.#running = event.session;
      this.#sentId = event.type === "session.updated" ? null : this.#sentId;
      this.#fill();
      if (event.type === "session.updated") setText(this.#field("session-state"), "Taken: the session now has this.");
    } else if (event.type === "error" && this.#sentId && event.error?.event_id === this.#sentId) {
      this.#sentId = null;
      this.#complain(`Not taken: ${event.error.message}`);
    }
  }

  ended() {
    this.#running = null;
    this.#sentId = null;
    this.#fill();
  }

  #fill() {
    const session = this.#running ?? this.#chosen;
    const { input = {}, output = {} } = session.audio ?? {};
    const turns = input.turn_detection;
    const set = (name, value) => (this.#field(name).value = value ?? "");
    set("s-instructions", session.instructions);
    set("s-voice", typeof output.voice === "string" ? output.voice : "");
    set("s-turns", turns === null ? "off" : turns?.type);
    set("s-silence", turns?.silence_duration_ms);
    set("s-threshold", turns?.threshold);
    set("s-eagerness", turns?.eagerness ?? "auto");
    this.#setTranscription(input.transcription);
    set("s-tools", session.tools?.length ? JSON.stringify(session.tools, null, 2) : "");
    this.#shown = this.#values();
    this.#complain("");
    this.#refresh();
  }

  #setTranscription(transcription) {
    const select = this.#field("s-transcription");
    const value = transcription === null ? "off" : transcription === undefined ? "" : transcription.model ?? "whisper-1";
    if (![...select.options].some((option) => option.value === value)) select.add(new Option(value, value));
    select.value = value;
  }

  #values() {
    const value = (name) => this.#field(name).value;
    return {
      instructions: value("s-instructions"),
      voice: value("s-voice").trim(),
      turns: JSON.stringify([value("s-turns"), value("s-silence"), value("s-threshold"), value("s-eagerness")]),
      transcription: value("s-transcription"),
      tools: value("s-tools").trim(),
    };
  }

  #changed() {
    const values = this.#values();
    return Object.keys(values).filter((name) => values[name] !== this.#shown[name]);
  }

  #refresh() {
    const turns = this.#field("s-turns").value;
    this.#field("s-silence-row").hidden = turns !== "server_vad";
    this.#field("s-eagerness-row").hidden = turns !== "semantic_vad";
    const isRunning = this.#running !== null;
    const changed = this.#changed();
    const apply = this.#field("session-apply");
    setText(apply, isRunning ? "Change the running call" : "Use from the next call on");
    apply.disabled = changed.length === 0;
    this.#field("session-reset").disabled = changed.length === 0;
    const words = changed.length ? `Changed and not applied: ${changed.map((name) => name.replace("turns", "turn detection")).join(", ")}.` : isRunning ? "As the running call has it." : this.forNextCall ? "The next call asks for this." : "The server's own session. Empty fields are not sent.";
    setText(this.#field("session-state"), words);
  }

  #complain(text) {
    setText(this.#field("session-problem"), text);
  }

  /** The session that the form asks for, of the fields named; throws with what is wrong. */
  #wanted(names) {
    const values = this.#values();
    const value = (name) => this.#field(name).value;
    const wanted = {};
    const input = {};
    if (names.includes("instructions")) wanted.instructions = values.instructions;
    if (names.includes("voice") && values.voice) wanted.audio = { output: { voice: values.voice } };
    if (names.includes("turns")) {
      const type = value("s-turns");
      if (type === "off") input.turn_detection = null;
      if (type === "server_vad") {
        input.turn_detection = { type };
        if (value("s-silence")) input.turn_detection.silence_duration_ms = Number(value("s-silence"));
        if (value("s-threshold")) input.turn_detection.threshold = Number(value("s-threshold"));
      }
      if (type === "semantic_vad") input.turn_detection = { type, eagerness: value("s-eagerness") };
    }
    if (names.includes("transcription") && values.transcription) {
      input.transcription = values.transcription === "off" ? null : { model: values.transcription };
    }
    if (Object.keys(input).length) wanted.audio = { ...wanted.audio, input };
    if (names.includes("tools")) wanted.tools = values.tools ? toolsOf(values.tools) : [];
    return wanted;
  }

  #apply() {
    this.#complain("");
    try {
      if (this.#running) {
        this.#sentId = `console_${crypto.getRandomValues(new Uint32Array(2)).join("")}`;
        const session = { type: this.#running.type ?? "realtime", ...this.#wanted(this.#changed()) };
        if (!this.#send({ type: "session.update", event_id: this.#sentId, session })) this.#complain("Not sent: the call is not connected.");
        return;
      }
      const values = this.#values();
      const filled = Object.keys(values).filter((name) => values[name] && values[name] !== '["","","","auto"]');
      this.#chosen = this.#wanted(filled);
      this.#shown = values;
      this.#refresh();
    } catch (error) {
      this.#complain(error.message);
      this.#field("s-tools").focus();
    }
  }
}

function toolsOf(text) {
  let tools;
  try {
    tools = JSON.parse(text);
  } catch (error) {
    throw new Error(`Tools: ${error.message.replace(/^JSON\.parse: /, "")}`);
  }
  if (!Array.isArray(tools)) throw new Error("Tools are a JSON array, as [ … ].");
  return tools;
}
