// @openai/agents-realtime in Node over WebSocket, as its users call it.

import { OpenAIRealtimeWebSocket, RealtimeAgent, RealtimeSession, tool } from "@openai/agents-realtime";
import { z } from "zod";

import { GaEvents, inputs, observe, observeError, run, speech } from "./scenario.mjs";

const URL = `${inputs.url.replace("https", "wss")}v1/realtime?model=gpt-realtime`;

const weather = tool({
    name: "get_weather",
    description: "The weather of a city",
    parameters: z.object({ city: z.string() }),
    execute: async (given) => {
        observe({ type: "sdk.tool_called", given });
        return `sunny in ${given.city}`;
    },
});

async function connected({ tools = [], config = {} } = {}) {
    const events = new GaEvents();
    const agent = new RealtimeAgent({ name: "Assistant", instructions: "Be brief.", tools });
    const transport = new OpenAIRealtimeWebSocket();
    const session = new RealtimeSession(agent, { transport, model: "gpt-realtime", config });
    transport.on("*", (event) => events.add(event));
    session.on("error", observeError);
    session.on("audio", ({ data }) => observe({ type: "sdk.audio", bytes: data.byteLength }));
    session.on("audio_interrupted", () => observe({ type: "sdk.audio_interrupted" }));
    await session.connect({ apiKey: inputs.key, url: URL });
    await events.until("session.updated");
    return { session, events };
}

function end(session) {
    observe({ type: "sdk.history", history: session.history });
    session.close();
}

function speak(session) {
    for (const piece of speech()) session.sendAudio(new Uint8Array(piece).buffer);
}

await run({
    async conversation() {
        const { session, events } = await connected({ tools: [weather] });
        session.sendMessage("What is the weather?");
        await events.until("response.output_text.done");
        await events.until("response.done", 2);
        speak(session);
        await events.until("response.done", 3);
        session.sendMessage("Thank you");
        await events.until("response.done", 4);
        end(session);
    },

    async spokenQuestion() {
        const { session, events } = await connected({ tools: [weather] });
        speak(session);
        await events.until("response.done", 2);
        await events.until("response.output_audio_transcript.done");
        end(session);
    },

    async interrupt() {
        const { session, events } = await connected();
        speak(session);
        await events.until("response.output_audio.delta");
        session.interrupt();
        await events.until("response.done");
        await events.until("conversation.item.retrieved"); // the SDK asks for what is left of the item
        end(session);
    },

    async manualTurn() {
        const format = { type: inputs.format };
        const audio = { input: { turnDetection: null, format, transcription: null }, output: { format } };
        const { session, events } = await connected({ config: { audio } });
        speak(session);
        session.sendAudio(new ArrayBuffer(0), { commit: true });
        await events.until("input_audio_buffer.committed");
        session.transport.requestResponse();
        await events.until("response.done");
        end(session);
    },

    async history() {
        const { session, events } = await connected();
        session.sendMessage("one");
        await events.until("response.done");
        session.sendMessage("two");
        await events.until("response.done", 2);
        session.updateHistory((history) => history.slice(0, 2));
        await events.until("conversation.item.deleted", 2);
        end(session);
    },
});
