// The npm package openai: a translation over WebSocket, from its greeting to the last event, and one that is hung up.

import OpenAI from "openai";
import { OpenAIRealtimeTranslationWS } from "openai/realtime/translations/ws";

import { PrintedEvents, inputs, observe, observeError, run, speech } from "./scenario.mjs";

const client = new OpenAI({ apiKey: inputs.key, baseURL: `${inputs.url}v1`, maxRetries: 0 });

// Each event that the SDK has a listener for is counted under its type: it drops those that lack what its types say.
const TYPED = [
    "session.created", "session.updated", "session.output_audio.delta", "session.output_transcript.delta",
    "session.input_transcript.delta", "session.closed",
];

async function opened(by = client) {
    const events = new PrintedEvents();
    const connection = await OpenAIRealtimeTranslationWS.create(by, { model: inputs.model });
    connection.on("event", (event) => events.add(event));
    connection.on("error", observeError);
    for (const type of TYPED) connection.on(type, () => observe({ type: "sdk.typed", of: type }));
    connection.socket.on("close", (code) => observe({ type: "sdk.closed", code }));
    const { session } = await events.until("session.created");
    return { connection, events, session };
}

await run({
    async translated() {
        const { connection, events } = await opened();
        const audio = { input: { transcription: { model: "gpt-realtime-whisper" } }, output: { language: "de" } };
        connection.send({ type: "session.update", session: { audio } });
        await events.until("session.updated");
        for (const piece of speech())
            connection.send({ type: "session.input_audio_buffer.append", audio: piece.toString("base64") });
        await connection.finish({ timeoutMs: 10_000 });
        observe({ type: "sdk.finished" });
    },

    async mintedKey() {
        const session = { model: inputs.model, audio: { output: { language: "fr" } } };
        const secret = await client.realtime.translations.clientSecrets.create({ session });
        observe({ type: "sdk.secret", session: secret.session });
        const { connection } = await opened(new OpenAI({ apiKey: secret.value, baseURL: client.baseURL }));
        await connection.finish({ timeoutMs: 10_000 });
        observe({ type: "sdk.finished" });
    },

    async hungUp() {
        const { connection, session } = await opened();
        const closed = new Promise((resolve) => connection.socket.on("close", resolve));
        await client.realtime.calls.hangup(session.id);
        await closed;
    },
});
