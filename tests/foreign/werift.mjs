// werift, WebRTC in TypeScript: RTP packets go in and come out.

import { MediaStreamTrack, RTCPeerConnection, RTCRtpCodecParameters } from "werift";

import { OpusLine, PrintedEvents, post } from "./peer.mjs";

export const OPUS = new RTCRtpCodecParameters({ mimeType: "audio/opus", clockRate: 48_000, channels: 2, payloadType: 111 });

// A connection with one track each way; `line` speaks into it and keeps what comes.
export function connected() {
    const connection = new RTCPeerConnection({ codecs: { audio: [OPUS] }, iceServers: [], iceAdditionalHostAddresses: ["127.0.0.1"] });
    const voice = new MediaStreamTrack({ kind: "audio" });
    const line = new OpusLine((packet) => voice.writeRtp(packet));
    const gone = new Promise((resolve) => {
        connection.connectionStateChange.subscribe((state) => {
            if (["closed", "failed", "disconnected"].includes(state)) resolve();
        });
    });
    connection.onTrack.subscribe((track) => {
        track.onReceiveRtp.subscribe(({ header, payload }) => line.take(header.timestamp, payload));
    });
    return { connection, voice, line, gone };
}

export async function call(events = new PrintedEvents()) {
    const { connection, voice, line, gone } = connected();
    connection.addTransceiver(voice, { direction: "sendrecv" });
    const channel = connection.createDataChannel("oai-events");
    channel.onMessage.subscribe((data) => events.add(JSON.parse(String(data))));
    const closed = new Promise((resolve) => {
        channel.stateChanged.subscribe((state) => state === "closed" && resolve());
    });
    const opened = new Promise((resolve) => {
        channel.stateChanged.subscribe((state) => state === "open" && resolve());
    });
    await connection.setLocalDescription(await connection.createOffer());
    const { sdp, callId } = await post(connection.localDescription.sdp);
    await connection.setRemoteDescription({ type: "answer", sdp });
    await opened;
    return {
        callId,
        events,
        gone: Promise.race([gone, closed]),
        send: (event) => channel.send(JSON.stringify(event)),
        speak: ({ packets }) => line.speak(packets),
        heard: () => ({ packets: line.packets }),
        async close() {
            channel.close(); // the connection's own end sends nothing: "todo impl send alert"
            await closed;
            await connection.close();
        },
    };
}
