// The npm package openai over WebSocket: OpenAIRealtimeWS, client secrets, and a call's sideband.

import OpenAI from "openai";
import { OpenAIRealtimeWS } from "openai/realtime/ws";

import { GaEvents, TOOL, inputs, observe, observeError, run, speech } from "./scenario.mjs";

const client = new OpenAI({ apiKey: inputs.key, baseURL: `${inputs.url}v1`, maxRetries: 0 });

async function opened(wanted, by = client) {
    const events = new GaEvents();
    const socket = new OpenAIRealtimeWS(wanted, by);
    socket.on("event", (event) => events.add(event));
    socket.on("error", observeError);
    socket.socket.on("close", (code) => observe({ type: "sdk.closed", code }));
    await events.until("session.created");
    return { socket, events };
}

async function configured(session) {
    const { socket, events } = await opened({ model: "gpt-realtime" });
    socket.send({ type: "session.update", session: { type: "realtime", ...session } });
    await events.until("session.updated");
    return { socket, events };
}

function speak(socket) {
    for (const piece of speech()) socket.send({ type: "input_audio_buffer.append", audio: piece.toString("base64") });
}

function write(socket, text) {
    const content = [{ type: "input_text", text }];
    socket.send({ type: "conversation.item.create", item: { type: "message", role: "user", content } });
    socket.send({ type: "response.create" });
}

await run({
    async spokenTurn() {
        const format = { type: inputs.format };
        const { socket, events } = await configured({ audio: { input: { format }, output: { format } } });
        speak(socket);
        await events.until("response.done");
        socket.close();
    },

    async toolRoundTrip() {
        const { socket, events } = await configured({ tools: [TOOL], output_modalities: ["text"] });
        write(socket, "What is the weather?");
        const call = await events.until("response.function_call_arguments.done");
        await events.until("response.done");
        const output = JSON.stringify({ sky: `blue over ${JSON.parse(call.arguments).city}` });
        socket.send({
            type: "conversation.item.create",
            item: { type: "function_call_output", call_id: call.call_id, output },
        });
        socket.send({ type: "response.create" });
        await events.until("response.done", 2);
        socket.close();
    },

    async cancelAndTruncate() {
        const { socket, events } = await configured({});
        speak(socket);
        const { item_id, content_index } = await events.until("response.output_audio.delta");
        socket.send({ type: "response.cancel" });
        await events.until("response.done");
        socket.send({ type: "conversation.item.truncate", item_id, content_index, audio_end_ms: 100 });
        await events.until("conversation.item.truncated");
        socket.close();
    },

    async errors() {
        const { socket, events } = await opened({ model: "gpt-realtime" });
        socket.send({ type: "response.cancel", event_id: "mine_1" });
        socket.send({ type: "input_audio_buffer.commit", event_id: "mine_2" });
        const audio = { output: { speed: 99 } };
        socket.send({ type: "session.update", event_id: "mine_3", session: { type: "realtime", audio } });
        socket.send({ type: "conversation.item.delete", event_id: "mine_4", item_id: "item_nobody_has" });
        await events.until("error", 4);
        write(socket, "still there?");
        await events.until("response.done");
        socket.close();
    },

    async flatSession() {
        const { socket, events } = await opened({ model: "gpt-realtime" });
        socket.send({ type: "session.update", event_id: "mine", session: { type: "realtime", voice: "verse" } });
        write(socket, "the next answer");
        await events.until("response.done");
        socket.close();
    },

    async clientSecret() {
        const session = { type: "realtime", instructions: "Be brief.", output_modalities: ["text"] };
        const secret = await client.realtime.clientSecrets.create({
            expires_after: { anchor: "created_at", seconds: 60 },
            session,
        });
        observe({ type: "sdk.secret", value: secret.value, expires_at: secret.expires_at, session: secret.session });
        const holder = new OpenAI({ apiKey: secret.value, baseURL: client.baseURL });
        const { socket, events } = await opened({ model: "gpt-realtime" }, holder);
        write(socket, "hello");
        await events.until("response.done");
        socket.close();
    },

    async transcription() {
        const { socket, events } = await opened({ intent: "transcription" });
        speak(socket);
        await events.until("conversation.item.done");
        socket.close();
    },

    async wrongKey() {
        const stranger = new OpenAI({ apiKey: "sk-wrong", baseURL: client.baseURL, maxRetries: 0 });
        await stranger.realtime.clientSecrets.create({}).catch(({ status, code, type, message }) => {
            observe({ type: "sdk.refused", status, code, kind: type, message });
        });
        const socket = new OpenAIRealtimeWS({ model: "gpt-realtime" }, stranger);
        await new Promise((resolve) => socket.on("error", (error) => resolve(observeError(error))));
    },

    async sideband() {
        const session = { type: "realtime", model: "gpt-realtime", instructions: "Be brief." };
        const answer = await client.realtime.calls.create({ sdp: inputs.sdp, session });
        const callID = answer.headers.get("Location").split("/").pop();
        observe({ type: "sdk.answer", sdp: await answer.text(), callID });
        const { socket, events } = await opened({ callID });
        await events.until("input_audio_buffer.committed");
        await events.until("response.done");
        await events.until("output_audio_buffer.stopped");
        socket.send({ type: "session.update", session: { type: "realtime", instructions: "Be silent." } });
        await events.until("session.updated");
        write(socket, "from the server");
        await events.until("response.done", 2);
        const closed = new Promise((resolve) => socket.socket.on("close", resolve));
        await client.realtime.calls.hangup(callID);
        await closed;
        for (let isRefused = false; !isRefused; ) {
            // the call ends a moment after its sockets
            await client.realtime.calls.hangup(callID).catch(({ status, code }) => {
                isRefused = true;
                observe({ type: "sdk.refused", status, code });
            });
        }
        await client.realtime.calls.reject(callID).catch(({ status }) => observe({ type: "sdk.refused", status }));
    },
});
