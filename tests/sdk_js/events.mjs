// What the SDK makes of the events that a client got; in Node and in a browser.

import {
    parseRealtimeEvent,
    realtimeServerEventSchema,
} from "./node_modules/@openai/agents-realtime/dist/openaiRealtimeEvents.mjs";

export { Events } from "./waiting.mjs";

// Why the SDK would not recognise a server event, by its own schema; null where it does.
export function complaint(event) {
    if (!parseRealtimeEvent({ data: JSON.stringify(event) }).isGeneric) return null;
    return { type: "sdk.not_recognised", event, issues: realtimeServerEventSchema.safeParse(event).error.issues };
}
