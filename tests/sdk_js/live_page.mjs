// In the browser: the Live class of the npm package openai over WebRTC, with a key of the bridge for the page.

import { OpenAILiveWebRTC } from "./node_modules/openai/live/webrtc.mjs";

import { Events } from "./events.mjs";

const SESSION = { model: "gpt-live-1", delegation: { type: "responses", responses: { model: "gpt-5" } } };

export async function talk(server, key) {
    const events = new Events();
    const live = new OpenAILiveWebRTC();
    live.onEvent((event) => events.add(event));
    const closed = new Promise((resolve) =>
        live.onConnectionEvent((event) => event.type !== "state.changed" && resolve(JSON.stringify(event))),
    );
    const audio = document.createElement("audio");
    audio.autoplay = true;
    live.peerConnection.ontrack = ({ track }) => (audio.srcObject = new MediaStream([track]));
    const microphone = await navigator.mediaDevices.getUserMedia({ audio: true });
    live.peerConnection.addTrack(microphone.getTracks()[0], microphone);
    let made;
    await live.connect({
        exchangeSdp: async (sdp, { signal }) => {
            const reply = await fetch(`${server}v1/live/sessions`, {
                method: "POST",
                signal,
                headers: { Authorization: `Bearer ${key}`, "Content-Type": "application/json" },
                body: JSON.stringify({ session: SESSION, transport: { type: "webrtc", sdp } }),
            });
            made = { status: reply.status, ...(await reply.json()) };
            return made.transport.sdp;
        },
    });
    await events.until("session.started");
    await events.until("session.output_transcript.delta");
    const stats = [...(await live.peerConnection.getStats()).values()];
    const energy = stats.find(({ type }) => type === "inbound-rtp")?.totalAudioEnergy ?? 0;
    live.send({ type: "session.close" });
    await events.until("session.closed");
    const end = await closed;
    return { status: made.status, id: made.session.id, energy, end, events: events.all };
}
