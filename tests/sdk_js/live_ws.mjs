// The npm package openai over WebSocket: a Live session, and a sideband of it.

import OpenAI from "openai";
import { SidebandWS } from "openai/resources/live/sideband/ws";
import { LiveWS } from "openai/resources/live/ws";

import { PrintedEvents, TOOL, inputs, observe, observeError, run, speech } from "./scenario.mjs";

const client = new OpenAI({ apiKey: inputs.key, baseURL: `${inputs.url}v1`, maxRetries: 0 });
const SESSION = {
    model: "gpt-live-1",
    delegation: { type: "responses", responses: { model: "gpt-5" } },
};

function follow(socket, by) {
    const events = new PrintedEvents();
    socket.on("event", (event) => events.add({ ...event, by }));
    socket.on("error", observeError);
    socket.socket.on("close", (code) => observe({ type: "sdk.closed", code, by }));
    return events;
}

await run({
    async spokenTurn() {
        const live = new LiveWS(client);
        const events = follow(live, "client");
        await new Promise((resolve) => live.socket.once("open", resolve));
        live.send({ type: "session.start", session: SESSION });
        const { session } = await events.until("session.started");
        const sideband = new SidebandWS(client, { session_id: session.id });
        const seen = follow(sideband, "sideband");
        await seen.until("session.started");
        for (const piece of speech()) live.send({ type: "session.input_audio.append", audio: piece.toString("base64") });
        await events.until("session.output_transcript.delta");
        await seen.until("session.output_transcript.delta");
        sideband.send({ type: "session.close" });
        await events.until("session.closed");
        await seen.until("session.closed");
    },

    async functionIsCalled() {
        const live = new LiveWS(client);
        const events = follow(live, "client");
        await new Promise((resolve) => live.socket.once("open", resolve));
        const responses = { model: "gpt-5", tools: [TOOL] };
        live.send({ type: "session.start", session: { ...SESSION, delegation: { type: "responses", responses } } });
        await events.until("session.started");
        for (const piece of speech()) live.send({ type: "session.input_audio.append", audio: piece.toString("base64") });
        const isOfWork = (kind) => ({ type, event }) => type === "response.event" && event.type === kind;
        await events.wait(() => events.all.some(isOfWork("response.completed")), "the end of the response");
        const { item } = events.all.find(isOfWork("response.output_item.done")).event;
        const output = { type: "function_call_output", call_id: item.call_id, output: "sunny" };
        live.send({ type: "response.item.create", item: output });
        live.send({ type: "response.create" });
        await events.until("session.output_transcript.delta");
        live.send({ type: "session.close" });
        await events.until("session.closed");
    },
});
