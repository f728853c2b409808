/**
 * One call: microphone, peer connection, data channel, and how it ended.
 *
 *     idle ─start()─▶ connecting ─▶ connected ─▶ closed
 *                        └──────────────────────▶ closed
 *
 * Tells about itself by events: "state", "open" (the data channel), "sent", "received", "remote" (the answer's
 * stream), "local" (the microphone's), "note" (a step worth a line in the event list), "quality" (once a second).
 */

import { address, authorization, milliseconds, problemOf } from "./dom.js";

const ANSWER_TIMEOUT_MS = 15_000; // for the HTTP answer, and again for the connection
const ONLY_LOOPBACK = "the server has loopback addresses only, to which Firefox does not connect: connect its machine to a network, or take another browser";
const LOST_AFTER_MS = 5_000; // "disconnected" may heal; this long it is not expected to
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
  #lostTimer = null;
  #qualityTimer = null;

  get isOpen() {
    return this.#channel?.readyState === "open";
  }

  /** Resolves when the answer is applied; the rest is told by events. Throws after having closed. */
  async start({ key = "", model = "", deviceId = "", listenOnly = false }) {
    this.#key = key;
    try {
      if (!listenOnly) {
        this.#become("connecting", "connecting: asking for the microphone");
        this.microphone = await this.#openMicrophone(deviceId);
        if (this.state === "closed") return this.#stopMicrophone();
        this.#tell("local", this.microphone);
      }
      await this.#connect(model);
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
      throw new NoMicrophone("Browsers open the microphone only for https:// pages and for localhost. This page is neither.");
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
        NotReadableError: "The microphone is in use by another program, or the system does not hand it out.",
      };
      throw new NoMicrophone(reasons[error.name] ?? `The microphone did not open: ${error.message}`);
    }
  }

  async #connect(model) {
    this.#become("connecting", "connecting");
    const iceServers = await this.#iceServers();
    if (this.state === "closed") return;
    const peer = (this.#peer = new RTCPeerConnection({ iceServers }));
    const channel = (this.#channel = peer.createDataChannel("oai-events"));
    channel.onopen = () => this.#tell("open", null);
    channel.onmessage = ({ data }) => this.#receive(data);
    channel.onclose = () => this.#close("the other side ended the call");
    peer.ontrack = ({ track, streams }) => this.#tell("remote", streams[0] ?? new MediaStream([track]));
    peer.onconnectionstatechange = () => this.#connectionChanged();
    if (this.microphone) this.microphone.getTracks().forEach((track) => peer.addTrack(track, this.microphone));
    else peer.addTransceiver("audio", { direction: "recvonly" });
    await peer.setLocalDescription(await peer.createOffer());

    this.startedAt = performance.now();
    const answer = await this.#postOffer(peer.localDescription.sdp, model);
    if (this.state === "closed") return;
    const onlyLoopback = [...answer.matchAll(/^a=candidate:(?:\S+ ){4}(\S+)/gm)].every(([, host]) => /^(127\.|::1$)/.test(host));
    this.#noPath = onlyLoopback ? ONLY_LOOPBACK : "no path to the server's UDP port";
    this.#connectTimer = setTimeout(() => this.hangUp(`no connection within 15 s: ${this.#noPath}`), ANSWER_TIMEOUT_MS);
    await peer.setRemoteDescription({ type: "answer", sdp: answer });
  }

  /** The TURN servers that the bridge tells of; a server without any, or another one that knows none, is no error. */
  async #iceServers() {
    try {
      const response = await fetch(address("v1/realtime/ice_servers"), { headers: authorization(this.#key), signal: AbortSignal.timeout(ANSWER_TIMEOUT_MS) });
      return response.ok ? ((await response.json()).iceServers ?? []) : [];
    } catch {
      return []; // the offer, which follows, tells what is wrong
    }
  }

  async #postOffer(sdp, model) {
    const url = address("v1/realtime/calls");
    if (model) url.searchParams.set("model", model);
    const timer = setTimeout(() => this.#abort.abort(), ANSWER_TIMEOUT_MS);
    let response;
    let body;
    try {
      response = await fetch(url, {
        method: "POST",
        headers: { "Content-Type": "application/sdp", ...authorization(this.#key) },
        body: sdp,
        signal: this.#abort.signal,
      });
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
    const took = milliseconds(performance.now() - this.startedAt);
    this.#tell("note", `POST ${url.pathname}: ${response.status} in ${took}, ${this.id ?? "no call id"}`);
    if (this.state === "closed" && this.id) hangUpCall(this.id, this.#key).catch(() => {});
    return body;
  }

  #connectionChanged() {
    const { connectionState } = this.#peer;
    clearTimeout(this.#lostTimer);
    if (connectionState === "connected" && this.state === "connecting") {
      clearTimeout(this.#connectTimer);
      this.connectedAt = performance.now();
      const took = Math.round(this.connectedAt - this.startedAt);
      this.#become("connected", `connected in ${took} ms`);
      this.#qualityTimer = setInterval(() => this.#measure(), QUALITY_EVERY_MS);
    } else if (connectionState === "failed") {
      this.hangUp(this.state === "connected" ? "the connection was lost" : this.#noPath);
    } else if (connectionState === "disconnected") {
      this.#lostTimer = setTimeout(() => this.hangUp("the connection was lost"), LOST_AFTER_MS);
    }
  }

  #receive(data) {
    try {
      this.#tell("received", JSON.parse(data));
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
    if (this.state === "connected") this.#tell("quality", quality);
  }

  #close(reason) {
    if (this.state === "closed") return;
    clearTimeout(this.#connectTimer);
    clearTimeout(this.#lostTimer);
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
