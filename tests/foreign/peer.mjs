// What every peer in Node does: it calls the daemon or answers it, speaks in real time, and keeps what it hears.

import fs from "node:fs";

import { Events } from "../sdk_js/waiting.mjs";

export const FRAME_MS = 20;
const FRAME_SAMPLES = 960;
const OPUS = 111;

export const inputs = JSON.parse(process.argv[3] ?? "{}");

export function observe(observation) {
    process.stdout.write(`${JSON.stringify(observation)}\n`);
}

// Each server event is printed as it came.
export class PrintedEvents extends Events {
    add(event) {
        observe(event);
        super.add(event);
    }
}

export const endOfInput = () => new Promise((resolve) => process.stdin.on("end", resolve).resume());

// Calls `frame` with 0, 1, 2 ... up to `count`, one every 20 ms of a clock that does not drift.
export async function paced(count, frame) {
    const began = performance.now();
    for (let number = 0; number < count; number += 1) {
        const wait = began + number * FRAME_MS - performance.now();
        if (wait > 0) await new Promise((resolve) => setTimeout(resolve, wait));
        frame(number);
    }
}

// Posts an offer as the API's documentation does; the answer, and the call's id.
export async function post(sdp) {
    const reply = await fetch(`${inputs.url}v1/realtime/calls`, {
        method: "POST",
        headers: { "Content-Type": "application/sdp" },
        body: sdp,
    });
    if (reply.status !== 201) throw new Error(`HTTP ${reply.status}: ${await reply.text()}`);
    const { from, to } = inputs.relay ?? {}; // ports: the packets of some calls take a way round
    const answer = (await reply.text()).replaceAll(` ${from} typ host`, ` ${to} typ host`);
    return { sdp: answer, callId: reply.headers.get("Location").split("/").pop() };
}

// For stacks without a codec: RTP of the Opus packets in a file, and the packets that came.
export class OpusLine {
    packets = [];
    #send;
    #sequence = 1000;
    #timestamp = 50_000;
    #ssrc = 0x1234abcd;

    constructor(send, ssrc) {
        this.#send = send;
        this.#ssrc = ssrc ?? this.#ssrc;
    }

    async speak(path) {
        const packets = JSON.parse(fs.readFileSync(path, "utf8")).map((text) => Buffer.from(text, "base64"));
        await paced(packets.length, (number) => {
            const header = Buffer.alloc(12);
            header.writeUInt8(0x80, 0);
            header.writeUInt8(OPUS | (number === 0 ? 0x80 : 0), 1);
            header.writeUInt16BE(this.#sequence++ & 0xffff, 2);
            header.writeUInt32BE(this.#timestamp, 4);
            header.writeUInt32BE(this.#ssrc, 8);
            this.#timestamp += FRAME_SAMPLES;
            this.#send(Buffer.concat([header, packets[number]]));
        });
    }

    take(timestamp, payload) {
        this.packets.push([timestamp, payload.toString("base64")]);
    }
}
