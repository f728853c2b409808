// libwebrtc, as @roamhq/wrtc has it: sound goes in and comes out as samples.

import fs from "node:fs";

import wrtc from "@roamhq/wrtc";

import { PrintedEvents, paced, post } from "./peer.mjs";

const RATE_HZ = 48_000;
const SAMPLES = 480; // what the source takes at a time, 10 ms

export async function call(events = new PrintedEvents()) {
    const connection = new wrtc.RTCPeerConnection();
    const source = new wrtc.nonstandard.RTCAudioSource();
    const heard = [];
    const closed = new Promise((resolve) => {
        connection.onconnectionstatechange = () => {
            if (["closed", "failed", "disconnected"].includes(connection.connectionState)) resolve();
        };
    });
    let sink;
    connection.ontrack = ({ track }) => {
        sink = new wrtc.nonstandard.RTCAudioSink(track);
        sink.ondata = ({ samples, sampleRate, channelCount }) => {
            if (channelCount !== 1) throw new Error(`${channelCount} channels`);
            const { buffer, byteOffset, byteLength } = samples;
            heard.push({ rate: sampleRate, pcm: Buffer.from(buffer.slice(byteOffset, byteOffset + byteLength)) });
        };
    };
    connection.addTrack(source.createTrack());
    const channel = connection.createDataChannel("oai-events");
    channel.onmessage = ({ data }) => events.add(JSON.parse(data));
    const gone = Promise.race([closed, new Promise((resolve) => (channel.onclose = resolve))]);
    const opened = new Promise((resolve) => (channel.onopen = resolve));
    await connection.setLocalDescription(await connection.createOffer());
    const gathered = () => connection.iceGatheringState === "complete";
    if (!gathered()) {
        await new Promise((resolve) => {
            connection.onicegatheringstatechange = () => gathered() && resolve();
        });
    }
    const { sdp, callId } = await post(connection.localDescription.sdp);
    await connection.setRemoteDescription({ type: "answer", sdp });
    await opened;

    const give = (pcm, at) => {
        const samples = new Int16Array(SAMPLES);
        for (let index = 0; index < SAMPLES && at + 2 * index < pcm.length; index += 1) {
            samples[index] = pcm.readInt16LE(at + 2 * index);
        }
        source.onData({ samples, sampleRate: RATE_HZ, bitsPerSample: 16, channelCount: 1, numberOfFrames: SAMPLES });
    };
    return {
        callId,
        events,
        gone,
        send: (event) => channel.send(JSON.stringify(event)),
        async speak({ pcm: path }) {
            const pcm = fs.readFileSync(path);
            await paced(Math.ceil(pcm.length / (4 * SAMPLES)), (number) => {
                give(pcm, number * 4 * SAMPLES);
                give(pcm, number * 4 * SAMPLES + 2 * SAMPLES);
            });
        },
        heard() {
            const rate_hz = heard.at(-1).rate; // it begins with silence at another one
            const pcm = Buffer.concat(heard.filter(({ rate }) => rate === rate_hz).map(({ pcm }) => pcm));
            return { rate_hz, pcm: pcm.toString("base64") };
        },
        close() {
            sink?.stop();
            connection.close();
        },
    };
}
