// openai-realtime-api: a client of the beta dialect that keeps the conversation item by item.

import { RealtimeClient } from "openai-realtime-api";
import { WebSocket } from "ws";

import { PrintedEvents, TOOL, inputs, observe, run, speech } from "./scenario.mjs";

delete globalThis.WebSocket; // the same way in for every version of Node

const SERVER_VAD = { type: "server_vad", threshold: 0.5, prefix_padding_ms: 300, silence_duration_ms: 500 };

// The client itself drops what it cannot place among its items, without a word.
function watchPlacing(conversation) {
    for (const [type, place] of Object.entries(conversation.EventProcessors)) {
        conversation.EventProcessors[type] = function (event, ...rest) {
            try {
                return place.call(this, event, ...rest);
            } catch (error) {
                observe({ type: "sdk.error", message: `${type}: ${error.message}` });
                throw error;
            }
        };
    }
}

async function connected(sessionConfig = {}) {
    const events = new PrintedEvents();
    const url = `${inputs.url.replace("https", "wss")}v1/realtime`;
    const client = new RealtimeClient({ url, apiKey: inputs.key, model: "gpt-4o-realtime-preview", sessionConfig });
    watchPlacing(client.conversation);
    client.realtime.on("server.*", (event) => events.add(event));
    client.on("conversation.interrupted", () => observe({ type: "sdk.interrupted" }));
    client.on("conversation.item.completed", ({ item }) => observe({ type: "sdk.completed", item: described(item) }));
    await client.connect();
    await client.waitForSessionCreated();
    await events.until("session.updated");
    return { client, events };
}

function described({ id, type, role, status, formatted: { audio, text, transcript, tool, output } }) {
    return { id, type, role, status, samples: audio.length, text, transcript, tool, output };
}

function speak(client) {
    for (const piece of speech()) client.appendInputAudio(new Int16Array(new Uint8Array(piece).buffer));
}

function end(client) {
    observe({ type: "sdk.items", items: client.conversation.getItems().map(described) });
    client.disconnect();
}

await run({
    async text() {
        const { client, events } = await connected();
        client.sendUserMessageContent([{ type: "input_text", text: "hello" }]);
        await events.until("response.done");
        end(client);
    },

    // With a WebSocket like a browser's, as Node has since 22, the client cannot set headers: all is in subprotocols.
    async subprotocols() {
        globalThis.WebSocket = WebSocket;
        const { client, events } = await connected();
        observe({ type: "sdk.subprotocol", chosen: client.realtime.ws.protocol });
        client.sendUserMessageContent([{ type: "input_text", text: "hello" }]);
        await events.until("response.done");
        end(client);
    },

    async spokenTurn() {
        const { client, events } = await connected({ turn_detection: SERVER_VAD });
        speak(client);
        await events.until("response.done");
        end(client);
    },

    async manualTurn() {
        const { client, events } = await connected();
        speak(client);
        client.createResponse();
        await events.until("response.done");
        const { id } = client.conversation.getItems()[1];
        client.realtime.send("conversation.item.truncate", { item_id: id, content_index: 0, audio_end_ms: 500 });
        await events.until("conversation.item.truncated");
        client.deleteItem(client.conversation.getItems()[0].id);
        await events.until("conversation.item.deleted");
        end(client);
    },

    async cancel() {
        const { client, events } = await connected();
        speak(client);
        client.createResponse();
        const { item_id } = await events.until("response.audio.delta");
        client.cancelResponse(item_id, 2400);
        await events.until("response.done");
        await events.until("conversation.item.truncated");
        end(client);
    },

    async tool() {
        const { client, events } = await connected();
        const { type: _, ...definition } = TOOL;
        client.addTool(definition, async (given) => {
            observe({ type: "sdk.tool_called", given });
            return { sky: `blue over ${given.city}` };
        });
        await events.until("session.updated", 2);
        client.sendUserMessageContent([{ type: "input_text", text: "What is the weather?" }]);
        await events.until("response.done", 2);
        end(client);
    },

    async errors() {
        const { client, events } = await connected();
        client.realtime.send("response.cancel");
        client.realtime.send("session.update", { session: { temperature: 9 } });
        await events.until("error", 2);
        client.sendUserMessageContent([{ type: "input_text", text: "still there?" }]);
        await events.until("response.done");
        end(client);
    },
});
