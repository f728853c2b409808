/** The page: joins the call, the meters, the conversation, the event list and the list of calls; and Operations beside. */

import { Call, NoMicrophone, endingOf, hangUpCall } from "./call.js";
import { Conversation } from "./conversation.js";
import { clock, copyText, count, milliseconds, setText } from "./dom.js";
import { EventList } from "./events.js";
import { Listening } from "./listen.js";
import { CallsPanel } from "./listeners.js";
import { Meters } from "./meters.js";
import { Operations } from "./operations.js";
import { Server } from "./server.js";
import { SessionSettings } from "./session.js";

const $ = (id) => document.getElementById(id);

/** To begin with in the raw event box. */
const TEMPLATES = {
  "Start from…": null,
  "Change the instructions": { type: "session.update", session: { type: "realtime", instructions: "Answer in one short sentence." } },
  "Add a tool": {
    type: "session.update",
    session: {
      type: "realtime",
      tools: [{ type: "function", name: "get_weather", description: "Weather of a city", parameters: { type: "object", properties: { city: { type: "string" } }, required: ["city"] } }],
    },
  },
  "Turn detection off": { type: "session.update", session: { type: "realtime", audio: { input: { turn_detection: null } } } },
  "Commit the sound so far": { type: "input_audio_buffer.commit" },
  "Ask for a response": { type: "response.create" },
  "Answer in text": { type: "response.create", response: { output_modalities: ["text"] } },
  "Retrieve an item": { type: "conversation.item.retrieve", item_id: "item_" },
  "Delete an item": { type: "conversation.item.delete", item_id: "item_" },
};

let call = null;
let clockTimer = null;
let isAnswering = false; // a response is being made; it may go on playing after that
let isMuted = false;
let isUnplugged = false; // the microphone is gone in the middle of a call

const key = () => $("key").value.trim();
const meters = new Meters([$("meter-caller"), $("meter-answer")]);
const conversation = new Conversation({ list: $("turns"), welcome: $("welcome"), answerCall: prepareResult });
const events = new EventList({
  list: $("events"), filter: $("filter"), pause: $("events-pause"), clear: $("events-clear"), copy: $("events-copy"),
  newest: $("events-newest"), empty: $("events-empty"), total: $("events-count"),
});
const calls = new CallsPanel(
  { list: $("calls"), empty: $("calls-empty"), total: $("calls-count"), audio: $("listener-audio"), attached: $("attached"), attachedTitle: $("attached-title") },
  { key, own: () => call?.id ?? null, listen: (id) => listening.open(id), onStatus: (status) => server.answered(status, "calls") },
);
const listening = new Listening(
  {
    panel: $("listening"), id: $("listening-id"), state: $("listening-state"), close: $("listening-close"),
    empty: $("listening-empty"), turns: $("listening-turns"), meters: [$("listening-caller"), $("listening-answer")],
    mutes: { caller: $("mute-caller"), answer: $("mute-answer") },
  },
  { key, onOpened: () => session.hide() },
);
const session = new SessionSettings({
  panel: $("session"), opener: $("session-open"), send: (event) => call?.send(event) ?? false, onOpened: () => listening.close(),
});
const operations = new Operations({ key, listen: (id) => listening.open(id), onStatus: (status, path) => server.answered(status, path) });
const server = new Server($("server"), { onReport: (report) => operations.ready(report) });

async function begin({ listenOnly = false } = {}) {
  if (call && call.state !== "closed") return;
  showError("");
  meters.wake();
  events.restart();
  const current = (call = new Call());
  const follow = (type, handler) => current.addEventListener(type, ({ detail }) => current === call && handler(detail));
  follow("state", showState);
  follow("open", () => {
    events.note("data channel open");
    setTalking(true);
  });
  follow("local", (stream) => {
    meters.attach(0, stream);
    listMicrophones();
  });
  follow("remote", (stream) => {
    $("answer").srcObject = stream;
    $("answer").play().catch(() => showError("The browser blocks the sound. Click anywhere on the page to hear the answer."));
    meters.attach(1, stream);
  });
  follow("unplugged", () => {
    isUnplugged = true;
    showVoice();
  });
  follow("note", (text) => events.note(text));
  follow("sent", (event) => {
    events.add("client", event);
    conversation.sent(event);
  });
  follow("received", (event) => {
    events.add("server", event);
    if (event.type === "response.created") isAnswering = true;
    if (event.type === "response.done") isAnswering = false;
    conversation.received(event);
    session.received(event);
  });
  follow("quality", showQuality);
  isUnplugged = false;
  setMuted(false);
  isAnswering = false;
  try {
    await current.start({ key: key(), model: $("model").value.trim(), deviceId: $("microphone").value, listenOnly, session: session.forNextCall });
    calls.refresh();
  } catch (error) {
    const noMicrophone = error instanceof NoMicrophone;
    showError(error.message, { offerListening: noMicrophone });
    if (error.status === 401) {
      $("settings").open = true;
      $("key").focus();
    }
  }
}

function showState({ state, text }) {
  const node = $("state");
  const hadFocus = document.activeElement;
  node.dataset.state = document.documentElement.dataset.call = state;
  setText(node, text);
  $("talk").disabled = state !== "idle" && state !== "closed";
  $("listen-only").disabled = $("talk").disabled;
  $("hangup").disabled = !$("talk").disabled;
  $("mute").disabled = $("hangup").disabled || !call.microphone;
  // A disabled button drops the keyboard's focus; its opposite takes it.
  if (hadFocus === $("talk") && $("talk").disabled) $("hangup").focus();
  if (hadFocus === $("hangup") && $("hangup").disabled) $("talk").focus();
  showVoice();
  if (call.id) {
    setText($("call-id"), call.id);
    $("call-id").disabled = false;
  }
  if (state === "connecting" && !call.id) {
    setText($("call-id"), "no call yet");
    $("call-id").disabled = true;
    setText($("clock"), "–:––");
    showQuality({});
  }
  if (state === "connected" && !clockTimer) {
    events.note(text);
    conversation.divide("A new call");
    clockTimer = setInterval(showClock, 500);
    showClock();
    calls.refresh();
  }
  if (state === "closed") {
    clearInterval(clockTimer);
    clockTimer = null;
    session.ended();
    meters.detach();
    setTalking(false);
    if (call.connectedAt) {
      showClock();
      conversation.divide(text[0].toUpperCase() + text.slice(1));
      if (/other side/.test(text)) tellEnding(call);
    } else if (call.id && !/you hung up/.test(text)) {
      showError(`Not connected: ${text.replace("closed: ", "")}.`);
    }
    events.note(text);
    calls.refresh();
  }
}

/** Whether the caller is heard: the truth, whatever was wished for. */
function showVoice() {
  if (!call) return;
  const voices = {
    connecting: ["connecting", "Calling", ""],
    reconnecting: ["unheard", "Reconnecting", ""],
    connected: !call.microphone
      ? ["listening", "Listening", "connected: listening and typing only"]
      : isUnplugged
        ? ["unheard", "Not heard", "connected, but the microphone is gone: you are not heard"]
        : isMuted
          ? ["muted", "Muted", "connected, muted: you are not heard"]
          : ["heard", "Talking", "connected: you are heard"],
  };
  const [voice, label, text] = voices[call.state] ?? ["idle", "Talk", ""];
  $("state").dataset.voice = voice;
  setText($("talk-label"), label);
  if (text) setText($("state"), text);
}

/** The server knows why it ended the call, and says so a moment later. */
async function tellEnding(ended) {
  let why = "";
  for (const waitMs of [0, 500, 1_500]) {
    await new Promise((resolve) => setTimeout(resolve, waitMs));
    why = await endingOf(ended.id, key());
    if (why) break;
  }
  if (!why || ended !== call) return;
  setText($("state"), `${$("state").textContent} (${why.replace(/^the call (has )?/, "")})`);
  events.note(why);
}

function showClock() {
  setText($("clock"), clock((performance.now() - call.connectedAt) / 1000));
}

function showQuality(quality) {
  const ms = (value) => (Number.isFinite(value) ? milliseconds(value) : "–");
  const lost = (value, of) => (value === undefined ? "–" : `${count(Math.max(0, value))} / ${count(of)}`);
  setText($("round-trip"), ms(quality.roundTripMs));
  setText($("caller-lost"), lost(quality.callerLost, quality.callerPackets));
  setText($("answer-lost"), lost(quality.answerLost, quality.answerPackets));
  setText($("jitter"), `${ms(quality.callerJitterMs)} / ${ms(quality.answerJitterMs)}`);
}

function showError(message, { offerListening = false } = {}) {
  $("error").hidden = !message;
  $("error-listen").hidden = !offerListening;
  setText($("error-text"), message);
}

function setTalking(isOpen) {
  for (const id of ["message", "send", "interrupt"]) $(id).disabled = !isOpen;
  $("message").placeholder = isOpen ? "Type a message" : "Type a message once connected";
  checkRaw();
}

function setMuted(muted) {
  isMuted = muted;
  call?.setMuted(muted);
  showVoice();
  $("mute").setAttribute("aria-pressed", String(muted));
  setText($("mute"), muted ? "Muted" : "Mute"); // what it is; a screen reader hears that it is pressed
}

async function listMicrophones() {
  const select = $("microphone");
  const chosen = select.value;
  const found = (await navigator.mediaDevices.enumerateDevices()).filter(({ kind, deviceId }) => kind === "audioinput" && deviceId && deviceId !== "default");
  select.replaceChildren(new Option("the system's default", ""), ...found.map(({ label, deviceId }) => new Option(label || "microphone", deviceId)));
  select.value = chosen;
  if (select.selectedIndex < 0) select.value = "";
}

function sendMessage() {
  const text = $("message").value.trim();
  if (!text) return;
  const item = { type: "message", role: "user", content: [{ type: "input_text", text }] };
  if (!call?.send({ type: "conversation.item.create", item })) return;
  call.send({ type: "response.create" });
  $("message").value = "";
}

function prepareResult(callId) {
  $("raw").open = true;
  $("raw-text").value = JSON.stringify({ type: "conversation.item.create", item: { type: "function_call_output", call_id: callId, output: "{}" } }, null, 2);
  checkRaw();
  $("raw-text").focus();
}

/** The event in the raw box, or null; says what is wrong with it. */
function checkRaw() {
  const text = $("raw-text").value.trim();
  let event = null;
  let problem = "";
  try {
    if (text) event = JSON.parse(text);
    if (event && (typeof event !== "object" || Array.isArray(event))) problem = "An event must be a JSON object.";
    else if (event && typeof event.type !== "string") problem = "An event must have a type.";
  } catch (error) {
    problem = error.message.replace(/^JSON\.parse: /, "");
  }
  if (event && !problem && !call?.isOpen) problem = "Needs a connected call.";
  setText($("raw-problem"), problem);
  $("raw-send").disabled = !event || Boolean(problem);
  return $("raw-send").disabled ? null : event;
}

function sendRaw() {
  const event = checkRaw();
  if (event) call.send(event);
}

$("talk").addEventListener("click", () => begin());
for (const id of ["listen-only", "error-listen"]) $(id).addEventListener("click", () => begin({ listenOnly: true }));
$("hangup").addEventListener("click", () => call?.hangUp());
$("mute").addEventListener("click", () => setMuted($("mute").getAttribute("aria-pressed") !== "true"));
$("error-close").addEventListener("click", () => showError(""));
$("call-id").addEventListener("click", () => copyText(call.id, $("call-id")));
$("interrupt").addEventListener("click", () => {
  if (isAnswering) call?.send({ type: "response.cancel" });
  call?.send({ type: "output_audio_buffer.clear" });
});
$("composer").addEventListener("submit", (submit) => {
  submit.preventDefault();
  sendMessage();
});
$("raw-form").addEventListener("submit", (submit) => {
  submit.preventDefault();
  sendRaw();
});
$("raw-text").addEventListener("input", checkRaw);
$("raw-text").addEventListener("keydown", (press) => {
  if (press.key === "Enter" && (press.ctrlKey || press.metaKey)) sendRaw();
});
$("raw-template").replaceChildren(...Object.keys(TEMPLATES).map((name) => new Option(name, name)));
$("raw-template").addEventListener("change", ({ target }) => {
  const template = TEMPLATES[target.value];
  if (template) $("raw-text").value = JSON.stringify(template, null, 2);
  target.selectedIndex = 0;
  checkRaw();
});
$("settings").querySelector("form").addEventListener("submit", (submit) => submit.preventDefault());
$("key").addEventListener("change", () => {
  server.forget();
  calls.refresh();
  operations.refresh({ again: true });
});

/** One of the two pages is in sight: the one that the address names. A call goes on meanwhile. */
function showPage() {
  const isOperations = location.hash === "#operations";
  $("call-page").hidden = isOperations;
  $("operations-page").hidden = !isOperations;
  document.documentElement.dataset.page = isOperations ? "operations" : "call";
  document.title = isOperations ? "bridge operations" : "bridge console";
  for (const link of document.querySelectorAll(".pages a")) {
    if (link.hash === (isOperations ? "#operations" : "#call")) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  calls.show(!isOperations);
  operations.show(isOperations);
}
addEventListener("hashchange", showPage);
showPage();
document.addEventListener("click", ({ target }) => {
  if (!$("settings").contains(target)) $("settings").open = false;
  if ($("answer").srcObject && $("answer").paused) $("answer").play().then(() => showError(""), () => {});
});
document.addEventListener("keydown", ({ key: pressed }) => {
  if (pressed === "Escape" && $("settings").open) {
    $("settings").open = false;
    $("settings").querySelector("summary").focus();
  }
});
addEventListener("pagehide", () => {
  if (call?.id && call.state !== "closed") hangUpCall(call.id, key()).catch(() => {});
});
