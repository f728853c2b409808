// libdatachannel, which OBS is built on: publishes sound and pictures by WHIP as OBS does, and plays the call by WHEP.

import ndc from "node-datachannel";

import { OpusLine, endOfInput, inputs, observe } from "./peer.mjs";

const SSRC = 4242;
const RTP_HEADER_BYTES = 12;
const OPUS = 111;

// Sends the offer and takes the answer, as OBS does; where the session is.
async function offered(connection, path) {
    const gathered = new Promise((resolve) => {
        connection.onGatheringStateChange((state) => state === "complete" && resolve());
    });
    const connected = new Promise((resolve) => {
        connection.onStateChange((state) => state === "connected" && resolve());
    });
    connection.setLocalDescription("offer");
    await gathered;
    const reply = await fetch(new URL(path, inputs.url), {
        method: "POST",
        headers: { "Content-Type": "application/sdp", Authorization: `Bearer ${inputs.key}` },
        body: connection.localDescription().sdp,
    });
    if (reply.status !== 201) throw new Error(`HTTP ${reply.status}: ${await reply.text()}`);
    connection.setRemoteDescription(await reply.text(), "answer");
    await connected;
    return { session: new URL(reply.headers.get("Location"), reply.url), warning: reply.headers.get("Bridge-Warning") };
}

async function ended(session) {
    return (await fetch(session, { method: "DELETE", headers: { Authorization: `Bearer ${inputs.key}` } })).status;
}

function gone(connection) {
    return new Promise((resolve) => {
        connection.onStateChange((state) => ["closed", "failed", "disconnected"].includes(state) && resolve());
    });
}

const publisher = new ndc.PeerConnection("publisher", { iceServers: [], bindAddress: "127.0.0.1" });
const audio = new ndc.Audio("0", "SendOnly");
audio.addOpusCodec(OPUS);
audio.addSSRC(SSRC, "cname", "stream", "audio");
const track = publisher.addTrack(audio);
const video = new ndc.Video("1", "SendOnly");
video.addH264Codec(96);
video.addSSRC(SSRC + 1, "cname", "stream", "video");
publisher.addTrack(video);
const line = new OpusLine((packet) => track.sendMessageBinary(packet), SSRC);
const published = await offered(publisher, "/v1/whip");
const callId = published.session.pathname.split("/").at(-1);

const player = new ndc.PeerConnection("player", { iceServers: [], bindAddress: "127.0.0.1" });
const heard = new ndc.Audio("0", "RecvOnly");
heard.addOpusCodec(OPUS);
player.addTrack(heard).onMessage((packet) => {
    if ((packet[1] & 0x7f) !== OPUS) return; // a report
    const extension = packet[0] & 0x10 ? 4 + 4 * packet.readUInt16BE(RTP_HEADER_BYTES + 2) : 0;
    line.take(packet.readUInt32BE(4), packet.subarray(RTP_HEADER_BYTES + extension));
});
const played = await offered(player, `/v1/whep/${callId}?tracks=output`);
observe({ type: "peer.connected", call_id: callId, warning: published.warning });

await line.speak(inputs.packets);
await endOfInput();
observe({ type: "peer.heard", packets: line.packets });
const over = [gone(player), gone(publisher)];
const statuses = [await ended(played.session), await ended(published.session)];
await Promise.all(over);
observe({ type: "peer.gone", statuses });
player.close();
publisher.close();
setTimeout(() => process.exit(0), 500).unref(); // libraries keep threads; the goodbye gets its moment
