// @mastra/voice-openai-realtime: a voice with a tool, told nothing but its url.

import { OpenAIRealtimeVoice } from "@mastra/voice-openai-realtime";
import { z } from "zod";

import { PrintedEvents, TOOL, inputs, observe, run, spoken } from "../../sdk_js/scenario.mjs";

const SERVER_EVENTS = [
    "error",
    "session.updated",
    "input_audio_buffer.speech_started",
    "conversation.item.input_audio_transcription.completed",
    "response.output_audio.delta",
    "response.output_audio_transcript.done",
    "response.done",
];
const events = new PrintedEvents();

async function speak(voice, ...names) {
    for (const piece of names.flatMap((name) => [...spoken(name)])) {
        await voice.send(new Int16Array(piece.buffer, piece.byteOffset, piece.length / 2));
    }
}

await run({
    async session() {
        const voice = new OpenAIRealtimeVoice({
            url: `${inputs.base_url.replace("http", "ws")}/realtime`,
            model: "gpt-realtime",
            apiKey: inputs.key,
            speaker: "alloy",
        });
        voice.addInstructions("Help.");
        voice.addTools({
            [TOOL.name]: {
                description: TOOL.description,
                inputSchema: z.object({ city: z.string() }),
                async execute({ city }) {
                    events.add({ type: "sdk.tool_called", given: { city } });
                    return `sunny in ${city}`;
                },
            },
        });
        for (const type of SERVER_EVENTS) voice.on(`openAIRealtime:${type}`, (event) => events.add(event));
        voice.on("error", (error) => observe({ type: "sdk.error", message: String(error.message ?? error) }));
        voice.on("writing", ({ text, role }) => observe({ type: "sdk.writing", text, role }));
        voice.on("speaking", ({ audio }) => observe({ type: "sdk.speaking", size: audio.length }));
        await voice.connect();
        await events.until("session.updated");

        await speak(voice, "weather", "pause");
        await events.until("response.done", 2);
        await speak(voice, "count", "pause");
        const { length } = events.of("response.output_audio.delta");
        await events.until("response.output_audio.delta", length + 1);
        await speak(voice, "weather", "pause");
        await events.until("response.done", 5);
        const content = [{ type: "input_text", text: "Say good morning." }];
        voice.sendEvent("conversation.item.create", { item: { type: "message", role: "user", content } });
        await voice.answer({});
        await events.until("response.done", 6);
        voice.close();
    },
});
