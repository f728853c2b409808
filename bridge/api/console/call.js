/**
 * One call: microphone, peer connection, data channel, and how it ended.
 *
 *     idle ─start()─▶ connecting ─▶ connected ⇄ reconnecting
 *                        └──────────────┴─────────────┴─────▶ closed
 *
 * After a connection broke another peer connection takes its place, with the resume key that came with the answer; events
 * go on behind the last one that came.
 *
 * Tells about itself by events: "state", "open" (the data channel), "sent", "received", "remote" (the answer's
 * stream), "local" (the microphone's), "unplugged" (it is gone), "note" (a step worth a line in the event list),
 * "quality" (once a second).
 */

import { address, authorization, milliseconds, problemOf } from "./dom.js";

const ANSWER_TIMEOUT_MS = 15_000; // for the HTTP answer, and again for the connection
const ONLY_LOOPBACK = "the server has only loopback addresses, to which Firefox does not connect: connect its machine to a network, or use another browser";
const RETURN_AFTER_MS = 1_000; // "disconnected" may heal by itself
const RETURN_EVERY_MS = 6_000;
const LOST_AFTER_MS = 30_000; // as long as the server waits, unless its settings say otherwise
const RESUME_KEY = "Bridge-Resume-Key";
const QUALITY_EVERY_MS = 1_000;

/** No microphone to be had: the page may still listen and type. */
export class NoMicrophone extends Error {}

export class Call extends EventTarget {
  state = "idle";
  id = null;
  microphone = null;
  #key = "";
  #peer = null;
  #channel = null;
  #abort = new AbortController();
  #noPath = "";
  #connectTimer = null;
  #returnTimer = null;
  #attempt = null; // { peer, channel }: the next ones, that are not connected yet
  #iceServers = [];
  #lastEventId = null;
  #resumeKey = "";
  #brokeAt = 0;
  #qualityTimer = null;

  get isOpen() {
    return this.#channel?.readyState === "open";
  }

  /** Resolves when the answer is applied; the rest is told by events. Throws after having closed. */
  async start({ key = "", model = "", deviceId = "", listenOnly = false, session = null }) {
    this.#key = key;
    try {
      if (!listenOnly) {
        this.#become("connecting", "connecting: asking for the microphone");
        this.microphone = await this.#openMicrophone(deviceId);
        if (this.state === "closed") return this.#stopMicrophone();
        this.microphone.getTracks().forEach((track) => track.addEventListener("ended", () => this.#tell("unplugged", null)));
        this.#tell("local", this.microphone);
      }
      await this.#connect(model, session);
    } catch (error) {
      if (this.state === "closed") return;
      this.#close(error instanceof NoMicrophone ? "no microphone" : "not accepted");
      throw error;
    }
  }

  /** False when the channel is not open. */
  send(event) {
    if (!this.isOpen) return false;
    this.#channel.send(JSON.stringify(event));
    this.#tell("sent", event);
    return true;
  }

  setMuted(muted) {
    this.microphone?.getAudioTracks().forEach((track) => (track.enabled = !muted));
  }

  hangUp(reason = "you hung up") {
    if (this.state === "closed") return;
    if (this.id) hangUpCall(this.id, this.#key).catch(() => {});
    this.#close(reason);
  }

  async #openMicrophone(deviceId) {
    if (!navigator.mediaDevices) {
      throw new NoMicrophone("Browsers allow the microphone only on https:// pages and on localhost. This page is neither.");
    }
    const audio = { echoCancellation: true, noiseSuppression: true, autoGainControl: true };
    if (deviceId) audio.deviceId = { exact: deviceId };
    try {
      return await navigator.mediaDevices.getUserMedia({ audio });
    } catch (error) {
      const reasons = {
        NotAllowedError: "The microphone was refused. Allow it in the address bar and press Talk again.",
        NotFoundError: "No microphone was found.",
        OverconstrainedError: "The chosen microphone is gone. Choose another one under Settings.",
        NotReadableError: "The microphone is in use by another program, or the system does not allow access to it.",
      };
      throw new NoMicrophone(reasons[error.name] ?? `The microphone did not open: ${error.message}`);
    }
  }

  async #connect(model, session) {
    this.#become("connecting", "connecting");
    this.#iceServers = await this.#askIceServers();
    if (this.state === "closed") return;
    const { peer, channel } = this.#newPeer();
    this.#peer = peer;
    this.#channel = channel;
    await peer.setLocalDescription(await peer.createOffer());

    this.startedAt = performance.now();
    const answer = await this.#postOffer(peer.localDescription.sdp, model, session);
    if (this.state === "closed") return;
    const onlyLoopback = [...answer.matchAll(/^a=candidate:(?:\S+ ){4}(\S+)/gm)].every(([, host]) => /^(127\.|::1$)/.test(host));
    this.#noPath = onlyLoopback ? ONLY_LOOPBACK : "no path to the server's UDP port";
    this.#connectTimer = setTimeout(() => this.hangUp(`no connection within 15 s: ${this.#noPath}`), ANSWER_TIMEOUT_MS);
    await peer.setRemoteDescription({ type: "answer", sdp: answer });
  }

  /** The TURN servers that the bridge tells of; a server without any, or another one that knows none, is no error. */
  async #askIceServers() {
    try {
      const response = await fetch(address("v1/realtime/ice_servers"), { headers: authorization(this.#key), signal: AbortSignal.timeout(ANSWER_TIMEOUT_MS) });
      return response.ok ? ((await response.json()).iceServers ?? []) : [];
    } catch {
      return []; // the offer, which follows, tells what is wrong
    }
  }

  #newPeer() {
    const peer = new RTCPeerConnection({ iceServers: this.#iceServers });
    const channel = peer.createDataChannel("oai-events");
    channel.onopen = () => channel === this.#channel && this.#tell("open", null);
    channel.onmessage = ({ data }) => this.#receive(data);
    channel.onclose = () => channel === this.#channel && this.#channelClosed();
    peer.ontrack = ({ track, streams }) => this.#tell("remote", streams[0] ?? new MediaStream([track]));
    peer.onconnectionstatechange = () => this.#connectionChanged(peer);
    if (this.microphone) this.microphone.getTracks().forEach((track) => peer.addTrack(track, this.microphone));
    else peer.addTransceiver("audio", { direction: "recvonly" });
    return { peer, channel };
  }

  async #postOffer(sdp, model, session) {
    const url = address("v1/realtime/calls");
    if (model) url.searchParams.set("model", model);
    const timer = setTimeout(() => this.#abort.abort(), ANSWER_TIMEOUT_MS);
    let response;
    let body;
    try {
      response = await fetch(url, { method: "POST", ...offer(sdp, session, authorization(this.#key)), signal: this.#abort.signal });
      if (!response.ok) {
        const error = new Error(await problemOf(response));
        error.status = response.status;
        throw error;
      }
      body = await response.text();
    } catch (error) {
      if (error.status) throw error;
      throw new Error(error.name === "AbortError" ? "The server did not answer the offer within 15 s." : "The server could not be reached.");
    } finally {
      clearTimeout(timer);
    }
    this.id = response.headers.get("Location")?.split("?")[0].split("/").filter(Boolean).pop() ?? null;
    this.#resumeKey = response.headers.get(RESUME_KEY) ?? "";
    const took = milliseconds(performance.now() - this.startedAt);
    this.#tell("note", `POST ${url.pathname}: ${response.status} in ${took}, ${this.id ?? "no call id"}`);
    if (this.state === "closed" && this.id) hangUpCall(this.id, this.#key).catch(() => {});
    return body;
  }

  #connectionChanged(peer) {
    const { connectionState } = peer;
    if (peer === this.#attempt?.peer) {
      if (connectionState === "connected") this.#takeOver();
      return;
    }
    if (peer !== this.#peer) return;
    if (connectionState === "connected" && this.state === "reconnecting") {
      this.#isBack(); // it has healed by itself
    } else if (connectionState === "connected" && this.state === "connecting") {
      clearTimeout(this.#connectTimer);
      this.connectedAt = performance.now();
      const took = Math.round(this.connectedAt - this.startedAt);
      this.#become("connected", `connected in ${took} ms`);
      this.#qualityTimer = setInterval(() => this.#measure(), QUALITY_EVERY_MS);
    } else if (connectionState === "failed" && this.state === "connecting") {
      this.hangUp(this.#noPath);
    } else if (connectionState === "disconnected" || connectionState === "failed") {
      this.#lose();
    }
  }

  /** By the server, because the call is over; or because it has heard nothing of this page for a while. */
  async #channelClosed() {
    if (this.state !== "connected") {
      if (this.state === "connecting") this.#close("the other side ended the call");
      return;
    }
    try {
      const response = await fetch(address(`v1/calls/${encodeURIComponent(this.id)}`), { headers: authorization(this.#key), signal: AbortSignal.timeout(5_000) });
      if (!response.ok || (await response.json()).state === "closed") this.#close("the other side ended the call");
      else this.#lose();
    } catch {
      this.#lose();
    }
  }

  #lose() {
    if (this.state !== "connected") return;
    if (!this.#resumeKey) {
      this.hangUp("the connection was lost");
      return;
    }
    this.#brokeAt = performance.now();
    this.#become("reconnecting", "reconnecting: the connection broke");
    this.#returnTimer = setTimeout(() => this.#comeBack(), RETURN_AFTER_MS);
  }

  /** Tries again and again, until it is connected or it took too long. */
  async #comeBack() {
    if (this.state !== "reconnecting") return;
    if (performance.now() - this.#brokeAt > LOST_AFTER_MS) {
      this.hangUp("the connection was lost");
      return;
    }
    this.#returnTimer = setTimeout(() => this.#comeBack(), RETURN_EVERY_MS);
    this.#attempt?.peer.close();
    const attempt = (this.#attempt = this.#newPeer());
    const url = address(`v1/realtime/calls/${encodeURIComponent(this.id)}`);
    if (this.#lastEventId) url.searchParams.set("after", this.#lastEventId);
    try {
      await attempt.peer.setLocalDescription(await attempt.peer.createOffer());
      const headers = { ...authorization(this.#key), [RESUME_KEY]: this.#resumeKey };
      const response = await fetch(url, { method: "POST", ...offer(attempt.peer.localDescription.sdp, null, headers), signal: AbortSignal.timeout(RETURN_EVERY_MS) });
      const text = await response.text();
      if (attempt !== this.#attempt || this.state !== "reconnecting") return;
      if (response.status === 404) this.#close("the connection was lost, and the server has ended the call");
      else if (response.status === 410) this.#lastEventId = null; // what was missed is kept no more
      else if (response.ok) await attempt.peer.setRemoteDescription({ type: "answer", sdp: text });
    } catch (error) {
      this.#tell("note", `not connected again yet: ${error.message}`);
    }
  }

  #takeOver() {
    const before = this.#peer;
    ({ peer: this.#peer, channel: this.#channel } = this.#attempt);
    this.#attempt = null;
    before.close();
    this.#isBack();
  }

  #isBack() {
    clearTimeout(this.#returnTimer);
    this.#attempt?.peer.close();
    this.#attempt = null;
    this.#tell("note", `connected again after ${milliseconds(performance.now() - this.#brokeAt)}`);
    this.#become("connected", "connected again");
  }

  #receive(data) {
    try {
      const event = JSON.parse(data);
      this.#lastEventId = event.event_id ?? this.#lastEventId;
      this.#tell("received", event);
    } catch {
      this.#tell("note", `not JSON on the data channel: ${String(data).slice(0, 200)}`);
    }
  }

  async #measure() {
    if (!this.#peer) return;
    const report = await this.#peer.getStats();
    const quality = {};
    let selected = null;
    for (const entry of report.values()) {
      if (entry.type === "transport") selected = entry.selectedCandidatePairId;
    }
    for (const entry of report.values()) {
      if (entry.type === "candidate-pair" && (entry.id === selected || entry.selected)) {
        quality.roundTripMs = (entry.currentRoundTripTime ?? NaN) * 1000;
      } else if (entry.type === "remote-inbound-rtp") {
        quality.callerLost = entry.packetsLost;
        quality.callerJitterMs = (entry.jitter ?? NaN) * 1000;
      } else if (entry.type === "outbound-rtp") {
        quality.callerPackets = entry.packetsSent;
      } else if (entry.type === "inbound-rtp") {
        quality.answerLost = entry.packetsLost;
        quality.answerPackets = entry.packetsReceived;
        quality.answerJitterMs = (entry.jitter ?? NaN) * 1000;
      }
    }
    if (this.state !== "closed") this.#tell("quality", quality);
  }

  #close(reason) {
    if (this.state === "closed") return;
    clearTimeout(this.#connectTimer);
    clearTimeout(this.#returnTimer);
    this.#attempt?.peer.close();
    this.#attempt = null;
    clearInterval(this.#qualityTimer);
    this.#become("closed", `closed: ${reason}`);
    this.#abort.abort();
    this.#peer?.close();
    this.#peer = null;
    this.#stopMicrophone();
  }

  #stopMicrophone() {
    this.microphone?.getTracks().forEach((track) => track.stop());
  }

  #become(state, text) {
    this.state = state;
    this.#tell("state", { state, text });
  }

  #tell(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}

/** What of a request brings an offer, and the session that it is for if there is one. */
function offer(sdp, session, headers) {
  if (!session) return { headers: { "Content-Type": "application/sdp", ...headers }, body: sdp };
  const body = new FormData();
  body.set("sdp", sdp);
  body.set("session", JSON.stringify(session));
  return { headers, body };
}

/** How a call ended, in the server's words; empty if they are not to be had. */
export async function endingOf(id, key) {
  const url = address("v1/calls");
  url.search = new URLSearchParams({ ended: "1", q: id });
  try {
    const response = await fetch(url, { headers: authorization(key), signal: AbortSignal.timeout(5_000) });
    const [call] = response.ok ? (await response.json()).data : [];
    return call ? endedBecause(call) : "";
  } catch {
    return "";
  }
}

/** The same of a call that is told of by its `result` and `reason`. */
export function endedBecause({ result, reason }) {
  const words = (slug) => (slug ?? "").replaceAll("_", " ");
  return result === "success" ? `the call has ended: ${words(reason)}` : `the call ended with an error (${words(result)}): ${words(reason)}`;
}

/** Ends any call on this server. `keepalive` lets it finish while the page goes away. */
export async function hangUpCall(id, key) {
  const response = await fetch(address(`v1/realtime/calls/${encodeURIComponent(id)}/hangup`), {
    method: "POST",
    headers: authorization(key),
    keepalive: true,
  });
  if (!response.ok) throw new Error(await problemOf(response));
  await response.text();
}
