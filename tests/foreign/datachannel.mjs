// libdatachannel, as node-datachannel has it: RTP packets go in and come out.

import ndc from "node-datachannel";

import { OpusLine, PrintedEvents, post } from "./peer.mjs";

const SSRC = 4242;
const RTP_HEADER_BYTES = 12;
const OPUS = 111;

export async function call(events = new PrintedEvents()) {
    const connection = new ndc.PeerConnection("caller", { iceServers: [], bindAddress: "127.0.0.1" });
    const audio = new ndc.Audio("audio", "SendRecv");
    audio.addOpusCodec(OPUS);
    audio.addSSRC(SSRC, "caller", "stream", "voice");
    const track = connection.addTrack(audio);
    const line = new OpusLine((packet) => track.sendMessageBinary(packet), SSRC);
    track.onMessage((packet) => {
        if ((packet[1] & 0x7f) !== OPUS) return; // a report
        const extension = packet[0] & 0x10 ? 4 + 4 * packet.readUInt16BE(RTP_HEADER_BYTES + 2) : 0;
        line.take(packet.readUInt32BE(4), packet.subarray(RTP_HEADER_BYTES + extension));
    });
    const gone = new Promise((resolve) => {
        connection.onStateChange((state) => ["closed", "failed", "disconnected"].includes(state) && resolve());
    });
    const gathered = new Promise((resolve) => {
        connection.onGatheringStateChange((state) => state === "complete" && resolve());
    });
    const channel = connection.createDataChannel("oai-events");
    channel.onMessage((text) => events.add(JSON.parse(text)));
    const opened = new Promise((resolve) => channel.onOpen(resolve));
    const closed = new Promise((resolve) => channel.onClosed(resolve));
    connection.setLocalDescription("offer");
    await gathered;
    const { sdp, callId } = await post(connection.localDescription().sdp);
    connection.setRemoteDescription(sdp, "answer");
    await opened;
    return {
        callId,
        events,
        gone: Promise.race([gone, closed]),
        send: (event) => channel.sendMessage(JSON.stringify(event)),
        speak: ({ packets }) => line.speak(packets),
        heard: () => ({ packets: line.packets }),
        close() {
            connection.close();
        },
    };
}
