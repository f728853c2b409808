// @livekit/agents with its openai plugin: an AgentSession without a room, told nothing but the base URL.

import { initializeLogger, llm, voice } from "@livekit/agents";
import * as openai from "@livekit/agents-plugin-openai";
import { AudioFrame } from "@livekit/rtc-node";
import { z } from "zod";

import { PrintedEvents, inputs, observe, run, spoken } from "../../sdk_js/scenario.mjs";

const RATE_HZ = 24_000;
const HEARD_S = 0.5;
const events = new PrintedEvents();

initializeLogger({ pretty: false, level: "silent" });

// What is spoken, and nothing otherwise.
class Microphone extends voice.AudioInput {
    #frames;

    constructor() {
        super();
        this.multiStream.addInputStream(new ReadableStream({ start: (controller) => (this.#frames = controller) }));
    }

    speak(...names) {
        for (const piece of names.flatMap((name) => [...spoken(name)])) {
            const samples = new Int16Array(Uint8Array.from(piece).buffer);
            this.#frames.enqueue(new AudioFrame(samples, RATE_HZ, 1, samples.length));
        }
    }
}

// Plays at once what it gets; while it is slow, it never comes to the end by itself.
class Loudspeaker extends voice.AudioOutput {
    slow = false;
    #seconds = 0;

    constructor() {
        super(RATE_HZ, undefined, { pause: false });
    }

    async captureFrame(frame) {
        await super.captureFrame(frame);
        if (!this.#seconds) {
            events.add({ type: "sdk.playing" });
            this.onPlaybackStarted(Date.now());
        }
        this.#seconds += frame.samplesPerChannel / frame.sampleRate;
    }

    flush() {
        super.flush();
        if (this.#seconds && !this.slow) this.#finish(this.#seconds, false);
    }

    clearBuffer() {
        if (this.#seconds) this.#finish(Math.min(HEARD_S, this.#seconds), true);
    }

    #finish(playbackPosition, interrupted) {
        events.add({ type: "sdk.played", seconds: this.#seconds, interrupted });
        this.#seconds = 0;
        this.onPlaybackFinished({ playbackPosition, interrupted });
    }
}

const getWeather = llm.tool({
    name: "get_weather",
    description: "The weather in a city",
    parameters: z.object({ city: z.string() }),
    async execute({ city }) {
        events.add({ type: "sdk.tool_called", given: { city } });
        return `sunny in ${city}`;
    },
});

const items = () => events.of("sdk.item");

await run({
    async session() {
        const model = new openai.realtime.RealtimeModel({ baseURL: inputs.base_url, apiKey: inputs.key });
        const session = new voice.AgentSession({ llm: model, aecWarmupDuration: null }); // or it is deaf at first
        const [microphone, loudspeaker] = [new Microphone(), new Loudspeaker()];
        session.input.audio = microphone;
        session.output.audio = loudspeaker;
        session.on(voice.AgentSessionEventTypes.ConversationItemAdded, ({ item }) => {
            if (item.type !== "message") return;
            events.add({ type: "sdk.item", role: item.role, text: item.textContent, interrupted: item.interrupted });
        });
        session.on(voice.AgentSessionEventTypes.Error, ({ error }) => {
            observe({ type: "sdk.error", message: String(error.message ?? error) });
        });
        const agent = new voice.Agent({ instructions: "Help.", tools: [getWeather] });
        await session.start({ agent });

        microphone.speak("weather", "pause");
        await events.wait(() => items().some(({ role }) => role === "assistant"), "spoken answer");
        loudspeaker.slow = true;
        microphone.speak("count", "pause");
        await events.until("sdk.playing", 2);
        microphone.speak("weather");
        await events.wait(() => items().some(({ interrupted }) => interrupted), "interrupted item");
        loudspeaker.slow = false;
        microphone.speak("pause");
        await events.until("sdk.tool_called", 2);
        await events.until("sdk.item", 6);
        session.generateReply({ userInput: "Say good morning." });
        await events.until("sdk.item", 8);
        await session.close();
        process.exit();
    },
});
