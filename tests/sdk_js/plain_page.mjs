// In the browser: what a page without any SDK does, in the words of the beta documentation.

import { Events } from "./events.mjs";

export const events = new Events();

let pc, dc;

export async function start(server) {
    const tokenResponse = await fetch(`${server}session`);
    const data = await tokenResponse.json();
    const EPHEMERAL_KEY = data.client_secret.value;

    pc = new RTCPeerConnection();
    const audioEl = document.createElement("audio");
    audioEl.autoplay = true;
    pc.ontrack = (e) => (audioEl.srcObject = e.streams[0]);

    const ms = await navigator.mediaDevices.getUserMedia({ audio: true });
    pc.addTrack(ms.getTracks()[0]);

    dc = pc.createDataChannel("oai-events");
    dc.addEventListener("message", (e) => events.add(JSON.parse(e.data)));
    const opened = new Promise((resolve) => dc.addEventListener("open", resolve));

    const offer = await pc.createOffer();
    await pc.setLocalDescription(offer);

    const sdpResponse = await fetch(`${server}v1/realtime?model=gpt-4o-realtime-preview-2024-12-17`, {
        method: "POST",
        body: offer.sdp,
        headers: {
            Authorization: `Bearer ${EPHEMERAL_KEY}`,
            "Content-Type": "application/sdp",
            "OpenAI-Beta": "realtime=v1",
        },
    });
    await pc.setRemoteDescription({ type: "answer", sdp: await sdpResponse.text() });
    await opened;
    return { token: data, status: sdpResponse.status };
}

export function send(event) {
    dc.send(JSON.stringify(event));
}

export async function energy() {
    const entries = [...(await pc.getStats()).values()];
    return entries.find(({ type }) => type === "inbound-rtp")?.totalAudioEnergy ?? 0;
}

// The same key again; a key of a web page is good for one connection.
export async function statusOfSecondCall(server, key) {
    const reply = await fetch(`${server}v1/realtime?model=any`, {
        method: "POST",
        body: pc.localDescription.sdp,
        headers: { Authorization: `Bearer ${key}`, "Content-Type": "application/sdp" },
    });
    return { status: reply.status, error: (await reply.json()).error };
}

export function close() {
    pc.close();
}
