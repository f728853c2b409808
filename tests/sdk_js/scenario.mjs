// What every scenario in Node needs: its inputs, the caller's voice, and one JSON line per observation.
// A scenario is run as: node FILE NAME INPUTS, with INPUTS as JSON. Server events are printed as they came; what the
// SDK makes of them is printed under types that begin with "sdk.".

import fs from "node:fs";

import { Events, complaint } from "./events.mjs";

const PIECE_BYTES = 9600;

export const inputs = JSON.parse(process.argv[3]);

export const TOOL = {
    type: "function",
    name: "get_weather",
    description: "The weather of a city",
    parameters: {
        type: "object",
        properties: { city: { type: "string" } },
        required: ["city"],
        additionalProperties: false,
    },
};

export function observe(observation) {
    process.stdout.write(`${JSON.stringify(observation)}\n`);
}

// An error as any of the SDKs raises or emits it.
export function observeError(error) {
    const { code, event_id, param } = error.error?.error ?? error.error ?? {};
    observe({ type: "sdk.error", message: String(error.message ?? JSON.stringify(error)), code, event_id, param });
}

export class PrintedEvents extends Events {
    add(event) {
        observe(event);
        super.add(event);
    }
}

// Events of a GA connection, each checked by a schema.
export class GaEvents extends PrintedEvents {
    add(event) {
        const complained = complaint(event);
        if (complained) observe(complained);
        super.add(event);
    }
}

// The caller's sound in pieces of a microphone.
export function speech() {
    return pieces(inputs.sound);
}

// One of several sentences.
export function spoken(name) {
    return pieces(inputs.sounds[name]);
}

function* pieces(path) {
    const sound = fs.readFileSync(path);
    for (let at = 0; at < sound.length; at += PIECE_BYTES) yield sound.subarray(at, at + PIECE_BYTES);
}

export async function run(scenarios) {
    await scenarios[process.argv[2]]();
}
