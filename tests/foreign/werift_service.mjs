// A Realtime service over WebRTC on werift: it answers one offer, hears a turn, answers it, and hangs up or is hung up on.

import http from "node:http";

import { FRAME_MS, inputs, observe } from "./peer.mjs";
import { connected } from "./werift.mjs";

const ended = { id: "item_1", type: "message", role: "assistant", status: "completed" };
const place = { response_id: "resp_1", item_id: "item_1", output_index: 0, content_index: 0 };

async function converse(channel, { connection, line, gone }) {
    const say = (type, fields = {}) => channel.send(Buffer.from(JSON.stringify({ type, event_id: "theirs", ...fields })));
    let created;
    const wanted = new Promise((resolve) => (created = resolve));
    channel.onMessage.subscribe((data) => {
        const event = JSON.parse(String(data));
        observe({ ...event, type: `client.${event.type}` });
        if (event.type === "response.create") created();
    });
    say("session.created", { session: { id: "sess_theirs", object: "realtime.session", type: "realtime", model: "theirs" } });
    await wanted;
    observe({ type: "peer.heard", packets: line.packets });
    const response = { id: "resp_1", object: "realtime.response", status: "in_progress", output: [] };
    say("response.created", { response });
    say("response.output_item.added", { response_id: "resp_1", output_index: 0, item: { ...ended, status: "in_progress", content: [] } });
    say("response.content_part.added", { ...place, part: { type: "audio", transcript: "" } });
    say("output_audio_buffer.started", { response_id: "resp_1" });
    await line.speak(inputs.packets);
    await new Promise((resolve) => setTimeout(resolve, 2 * FRAME_MS));
    const item = { ...ended, content: [{ type: "output_audio", transcript: "words" }] };
    say("response.output_audio.done", place);
    say("response.output_audio_transcript.done", { ...place, transcript: "words" });
    say("response.content_part.done", { ...place, part: { type: "audio", transcript: "words" } });
    say("response.output_item.done", { response_id: "resp_1", output_index: 0, item });
    say("response.done", { response: { ...response, status: "completed", output: [item] } });
    say("output_audio_buffer.stopped", { response_id: "resp_1" });
    const closed = new Promise((resolve) => channel.stateChanged.subscribe((state) => state === "closed" && resolve()));
    if (inputs.hangsUp) {
        await new Promise((resolve) => process.stdin.on("end", resolve).resume());
        channel.close();
        await closed;
    } else {
        await Promise.race([closed, gone]);
    }
    observe({ type: "peer.gone" });
    await connection.close();
    setTimeout(() => process.exit(0), 500); // the goodbye gets its moment
}

const server = http.createServer(async (request, response) => {
    let sdp = "";
    for await (const piece of request) sdp += piece;
    const peer = connected();
    peer.connection.onDataChannel.subscribe((channel) => converse(channel, peer));
    await peer.connection.setRemoteDescription({ type: "offer", sdp });
    for (const transceiver of peer.connection.getTransceivers()) {
        if (transceiver.kind !== "audio") continue;
        transceiver.setDirection?.("sendrecv");
        await transceiver.sender.replaceTrack(peer.voice);
    }
    await peer.connection.setLocalDescription(await peer.connection.createAnswer());
    response.writeHead(201, { "Content-Type": "application/sdp", Location: "/v1/realtime/calls/rtc_theirs" });
    response.end(peer.connection.localDescription.sdp);
});
server.listen(0, "127.0.0.1", () => observe({ type: "service.ready", port: server.address().port }));
