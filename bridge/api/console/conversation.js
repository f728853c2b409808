/**
 * The conversation as turns, made from the events as they come.
 *
 * Theory of operation: a turn is one conversation item. The caller's appears at `speech_started` (its item id is known
 * by then), the answer's at `output_item.added`, whatever comes first. Every handler finds or makes its turn by item
 * id, so order and repetition of events do not matter. Responses only remember which item they speak.
 */

import { Tail, element, setText } from "./dom.js";

const MOST_TURNS = 300;

export class Conversation {
  #list;
  #tail;
  #welcome;
  #answerCall;
  #turns = new Map(); // item id → turn
  #responses = new Map(); // response id → { turn, startedAt }
  #askedAt = null;
  #transcribes = false;

  /** `answerCall(callId)` is called when someone wants to type a function's result; without it nobody can. */
  constructor({ list, welcome, answerCall = null }) {
    this.#list = list;
    this.#tail = new Tail(list.closest(".pane"));
    this.#welcome = welcome;
    this.#answerCall = answerCall;
  }

  /** A line between the turns: a call began or ended. Nothing to stand between is nothing to tell. */
  divide(text) {
    if (this.#list.childElementCount) this.note(text);
  }

  /** Begins anew, with nothing. */
  clear() {
    this.#turns.clear();
    this.#responses.clear();
    this.#askedAt = null;
    this.#transcribes = false;
    this.#list.replaceChildren();
    this.#welcome.hidden = false;
  }

  note(text, kind = "") {
    this.#add(element("li", { className: `aside ${kind}` }, text));
  }

  sent(event) {
    if (event.type === "response.create") this.#askedAt = performance.now();
  }

  received(event) {
    this.#handlers[event.type]?.(event);
    this.#tail.follow();
  }

  #handlers = {
    "session.created": ({ session }) => this.#settings(session),
    "session.updated": ({ session }) => this.#settings(session),
    "input_audio_buffer.speech_started": ({ item_id, audio_start_ms }) => {
      const turn = this.#turn(item_id, "caller", "Caller");
      turn.startMs = audio_start_ms;
      turn.node.classList.toggle("bare", !this.#transcribes); // no remark will follow: keep no room for one
      this.#say(turn, 0, "speaking…", "dim");
    },
    "input_audio_buffer.speech_stopped": ({ item_id, audio_end_ms }) => {
      const turn = this.#turn(item_id, "caller", "Caller");
      this.#askedAt = performance.now();
      const spoke = turn.startMs === undefined ? "spoke" : `spoke ${((audio_end_ms - turn.startMs) / 1000).toFixed(1)} s`;
      this.#say(turn, 0, this.#transcribes ? `${spoke}, transcribing…` : spoke, "dim");
      turn.spoke = spoke;
    },
    "conversation.item.input_audio_transcription.delta": ({ item_id, delta }) => {
      const turn = this.#turn(item_id, "caller", "Caller");
      turn.heard = (turn.heard ?? "") + (delta ?? "");
      this.#say(turn, 0, turn.heard);
    },
    "conversation.item.input_audio_transcription.completed": ({ item_id, transcript }) => {
      const turn = this.#turn(item_id, "caller", "Caller");
      this.#say(turn, 0, transcript || "(nothing understood)", transcript ? "" : "dim");
      turn.node.classList.toggle("bare", turn.startMs === undefined);
      if (turn.startMs !== undefined && turn.spoke) this.#remark(turn, "spoke", turn.spoke);
    },
    "conversation.item.input_audio_transcription.failed": ({ item_id, error }) => {
      const turn = this.#turn(item_id, "caller", "Caller");
      this.#say(turn, 0, turn.spoke ?? "spoke", "dim");
      this.#remark(turn, "transcript", `no transcript: ${error?.message ?? error?.code ?? "no reason given"}`);
    },
    "conversation.item.added": ({ item }) => this.#item(item),
    "conversation.item.created": ({ item }) => this.#item(item),
    "conversation.item.done": ({ item }) => this.#item(item),
    "conversation.item.deleted": ({ item_id }) => this.#remark(this.#turns.get(item_id), "end", "deleted", "warn"),
    "conversation.item.truncated": ({ item_id, audio_end_ms }) => {
      const at = `interrupted at ${(audio_end_ms / 1000).toFixed(1)} s`;
      this.#interrupted(this.#turns.get(item_id), at);
    },
    "response.output_item.added": ({ item, response_id }) => this.#item(item, response_id),
    "response.output_item.done": ({ item, response_id }) => this.#item(item, response_id),
    "response.output_audio_transcript.delta": (event) => this.#grow(event, event.delta),
    "response.output_audio_transcript.done": (event) => this.#whole(event, event.transcript),
    "response.output_text.delta": (event) => this.#grow(event, event.delta).node.classList.add("bare"),
    "response.output_text.done": (event) => this.#whole(event, event.text),
    "response.function_call_arguments.delta": ({ item_id, delta }) => {
      const turn = this.#turn(item_id, "function", "Function");
      turn.arguments = (turn.arguments ?? "") + delta;
      this.#function(turn);
    },
    "response.function_call_arguments.done": ({ item_id, name, call_id, arguments: text }) => {
      const turn = this.#turn(item_id, "function", "Function");
      Object.assign(turn, { name: name ?? turn.name, callId: call_id, arguments: text, isWhole: true });
      this.#function(turn);
    },
    "output_audio_buffer.started": ({ response_id }) => {
      const response = this.#response(response_id);
      response.startedAt = performance.now();
      if (response.turn && this.#askedAt !== null) {
        const waited = (response.startedAt - this.#askedAt) / 1000;
        this.#remark(response.turn, "waited", `sound after ${waited.toFixed(2)} s`);
      }
      this.#askedAt = null;
      response.turn?.node.classList.add("playing");
    },
    "output_audio_buffer.stopped": ({ response_id }) => this.#played(response_id),
    "output_audio_buffer.cleared": ({ response_id }) => {
      this.#played(response_id);
      this.#interrupted(this.#response(response_id).turn, "interrupted");
    },
    "response.done": ({ response }) => {
      const { turn } = this.#response(response.id);
      const why = response.status_details?.error?.message ?? response.status_details?.reason;
      const words = [response.status, why].filter(Boolean).join(": ").replaceAll("_", " ");
      if (response.status === "failed") this.note(`The response failed${why ? `: ${why}` : ""}`, "bad");
      else if (turn && !turn.isInterrupted && response.status !== "completed") this.#remark(turn, "end", words, "warn");
    },
    error: ({ error }) => this.note(error?.message ?? "an error without a message", "bad"),
  };

  #settings(session) {
    const transcription = session?.audio?.input?.transcription ?? session?.input_audio_transcription;
    this.#transcribes = Boolean(transcription);
  }

  /** Any item, seen for the first time or again with more in it. */
  #item(item, responseId) {
    if (!item?.id) return;
    if (item.type === "function_call") {
      const turn = this.#turn(item.id, "function", "Function");
      turn.name = item.name ?? turn.name;
      turn.callId = item.call_id ?? turn.callId;
      if (item.arguments) turn.arguments = item.arguments;
      if (item.status === "completed") turn.isWhole = true;
      this.#function(turn);
    } else if (item.type === "function_call_output") {
      const turn = this.#turn(item.id, "function", "Result");
      turn.node.classList.add("bare");
      this.#say(turn, 0, String(item.output ?? ""), "code");
      for (const { callId, button } of this.#turns.values()) if (callId === item.call_id) button?.remove();
    } else if (item.role === "assistant") {
      const turn = this.#turn(item.id, "answer", "Answer");
      if (responseId) this.#response(responseId).turn ??= turn;
      item.content?.forEach((part, index) => {
        const text = part.transcript ?? part.text;
        if (text) this.#say(turn, index, text);
      });
    } else if (item.role === "user" || item.role === "system") {
      const turn = this.#turn(item.id, "caller", item.role === "user" ? "Caller" : "System");
      item.content?.forEach((part, index) => {
        const text = part.text ?? part.transcript;
        if (part.type === "input_text") turn.node.classList.add("bare");
        if (text) this.#say(turn, index, text);
        else if (!turn.parts.has(index)) this.#say(turn, index, part.type === "input_image" ? "(a picture)" : "spoke", "dim");
      });
    }
  }

  #turn(id, kind, who) {
    let turn = this.#turns.get(id);
    if (turn) return turn;
    const said = element("div", { className: "said" });
    const remarks = element("div", { className: "remarks" });
    const node = element("li", { className: `turn ${kind}`, data: { item: id } }, element("span", { className: "who" }, who), said, remarks);
    turn = { node, said, remarks, parts: new Map() };
    this.#turns.set(id, turn);
    this.#add(node);
    return turn;
  }

  #add(node) {
    this.#welcome.hidden = true;
    this.#list.append(node);
    while (this.#list.childElementCount > MOST_TURNS) {
      this.#turns.delete(this.#list.firstElementChild.dataset.item);
      this.#list.firstElementChild.remove();
    }
    this.#tail.follow();
  }

  #part(turn, index) {
    let part = turn.parts.get(index);
    if (!part) {
      part = element("p");
      turn.parts.set(index, part);
      turn.said.append(part);
    }
    return part;
  }

  #say(turn, index, text, kind = "") {
    const part = this.#part(turn, index);
    part.className = kind;
    setText(part, text);
  }

  #grow({ item_id, content_index = 0, response_id }, delta) {
    const turn = this.#turn(item_id, "answer", "Answer");
    if (response_id) this.#response(response_id).turn ??= turn;
    const part = this.#part(turn, content_index);
    if (part.firstChild) part.firstChild.appendData(delta ?? "");
    else part.textContent = delta ?? "";
    return turn;
  }

  #whole({ item_id, content_index = 0 }, text) {
    if (text) this.#say(this.#turn(item_id, "answer", "Answer"), content_index, text);
  }

  #function(turn) {
    let text = turn.arguments ?? "";
    if (turn.isWhole) {
      try {
        text = JSON.stringify(JSON.parse(text), null, 1).replace(/\n\s*/g, " ");
      } catch {
        // Shown as it came: what a model writes need not be JSON.
      }
    }
    this.#say(turn, 0, `${turn.name ?? "…"}(${text})`, "code");
    if (turn.isWhole && turn.callId && !turn.button && this.#answerCall) {
      turn.button = element("button", { type: "button", className: "link", onclick: () => this.#answerCall(turn.callId) }, "Type its result");
      turn.remarks.append(turn.button);
    }
  }

  #response(id) {
    let response = this.#responses.get(id);
    if (!response) this.#responses.set(id, (response = { turn: null, startedAt: null }));
    return response;
  }

  #played(responseId) {
    const { turn, startedAt } = this.#response(responseId);
    if (!turn) return;
    turn.node.classList.remove("playing");
    if (startedAt) this.#remark(turn, "played", `played ${((performance.now() - startedAt) / 1000).toFixed(1)} s`);
  }

  #interrupted(turn, words) {
    if (!turn) return;
    turn.node.classList.remove("playing");
    if (turn.isInterrupted && words === "interrupted") return; // the place in the sound is already told
    turn.isInterrupted = true;
    this.#remark(turn, "end", words, "warn");
  }

  /** One short remark under a turn; the same name again replaces it. */
  #remark(turn, name, words, kind = "") {
    if (!turn) return;
    let remark = turn.remarks.querySelector(`[data-name="${name}"]`);
    if (!remark) turn.remarks.append((remark = element("span", { data: { name } })));
    remark.className = kind;
    setText(remark, words);
  }
}
