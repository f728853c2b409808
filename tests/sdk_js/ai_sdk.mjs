// The npm packages ai and @ai-sdk/openai: a page's session, with a key that its own server gets from the bridge.

import http from "node:http";

import { createOpenAI } from "@ai-sdk/openai";
import { Experimental_AbstractRealtimeSession as AbstractRealtimeSession } from "ai";
import WebSocket from "ws";

import { PrintedEvents, TOOL, inputs, observe, run, spoken } from "./scenario.mjs";

const MODEL = "gpt-realtime-2.1";
const events = new PrintedEvents();
const openai = createOpenAI({ apiKey: inputs.key, baseURL: `${inputs.url}v1` });

// What a browser has and Node lacks: sockets, and a device that plays in real time.
globalThis.WebSocket = WebSocket;
globalThis.AudioContext = class {
    #began = performance.now();
    state = "running";
    destination = {};

    get currentTime() {
        return (performance.now() - this.#began) / 1000;
    }

    createBuffer(channels, samples, rate) {
        return { duration: samples / rate, getChannelData: () => new Float32Array(samples) };
    }

    createBufferSource() {
        const source = { connect() {}, disconnect() {}, onended: null };
        source.start = (at) => {
            const left_s = at + source.buffer.duration - this.currentTime;
            source.timer = setTimeout(() => source.onended?.(), 1000 * left_s);
        };
        source.stop = () => clearTimeout(source.timer);
        return source;
    }

    async close() {}
};

class Session extends AbstractRealtimeSession {
    setState(key, value) {
        this.state = { ...this.state, [key]: value };
        if (key === "isPlaying") events.add({ type: `sdk.${value ? "playing" : "silent"}` });
    }

    get messages() {
        return this.state.messages;
    }
}

// The application's server, which keeps the API's key and hands out short-lived ones.
async function tokenServer() {
    const server = http.createServer(async (request, response) => {
        const chunks = [];
        for await (const chunk of request) chunks.push(chunk);
        const { sessionConfig } = JSON.parse(Buffer.concat(chunks));
        const setup = await openai.experimental_realtime.getToken({ model: MODEL, sessionConfig });
        observe({ type: "sdk.token", url: setup.url, token: setup.token.slice(0, 3) });
        response.setHeader("Content-Type", "application/json");
        response.end(JSON.stringify(setup));
    });
    await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
    return server;
}

function speak(session, ...names) {
    for (const piece of names.flatMap((name) => [...spoken(name)])) session.sendAudio(piece.toString("base64"));
}

await run({
    async session() {
        const server = await tokenServer();
        const session = new Session({
            model: openai.experimental_realtime(MODEL),
            api: { token: `http://127.0.0.1:${server.address().port}/` },
            sessionConfig: {
                instructions: "Help.",
                voice: "marin",
                outputModalities: ["audio"],
                inputAudioFormat: { type: "audio/pcm", rate: 24000 },
                inputAudioTranscription: {},
                outputAudioFormat: { type: "audio/pcm", rate: 24000 },
                turnDetection: { type: "server-vad" },
                tools: [{ type: "function", name: TOOL.name, description: TOOL.description, parameters: TOOL.parameters }],
            },
            onToolCall: ({ toolCall }) => {
                events.add({ type: "sdk.tool_called", given: toolCall.args });
                return `sunny in ${toolCall.args.city}`;
            },
            onEvent: ({ raw, type }) => {
                if (type === "custom") observe({ type: "sdk.custom", name: raw.type });
                events.add(raw);
            },
            onError: (error) => events.add({ type: "sdk.error", message: error.message }),
        });
        await session.connect();
        await events.until("session.updated");
        speak(session, "weather", "pause");
        await events.until("response.done", 2);
        await events.until("sdk.silent");
        speak(session, "count", "pause");
        await events.until("response.output_audio.delta", events.of("response.output_audio.delta").length + 1);
        speak(session, "weather", "pause");
        await events.until("conversation.item.truncated");
        await events.until("response.done", 5);
        session.sendTextMessage("Say good morning.");
        await events.until("response.done", 6);
        observe({ type: "sdk.history", messages: session.messages });
        session.disconnect();
        server.close();
    },
});
