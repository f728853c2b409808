// In the browser: @openai/agents-realtime over WebRTC, as its users call it. A test drives one caller step by step.

import { Events, complaint } from "./events.mjs";
import {
    OpenAIRealtimeWebRTC,
    RealtimeAgent,
    RealtimeSession,
    tool,
} from "./node_modules/@openai/agents-realtime/dist/bundle/openai-realtime-agents.mjs";

const LIMIT_MS = 12_000;
const POLL_MS = 50;
const AUDIBLE = 0.0001;
const QUIET_MS = 400;

// Asks again until a condition holds that no event announces.
async function reached(hasCome, what) {
    const end = performance.now() + LIMIT_MS;
    while (!(await hasCome())) {
        if (performance.now() > end) throw new Error(`no ${what} within ${LIMIT_MS} ms`);
        await new Promise((resolve) => setTimeout(resolve, POLL_MS));
    }
}

export class Caller {
    events = new Events();
    complaints = [];
    toolCalls = [];
    audio = document.createElement("audio");
    peer = null;

    constructor({ url, hasTool = false, config = {} }) {
        const agent = new RealtimeAgent({
            name: "Assistant",
            instructions: "Be brief.",
            tools: hasTool ? [this.#weather()] : [],
        });
        this.transport = new OpenAIRealtimeWebRTC({
            baseUrl: `${url}v1/realtime/calls`,
            audioElement: this.audio,
            changePeerConnection: (peer) => (this.peer = peer),
        });
        this.session = new RealtimeSession(agent, { transport: this.transport, model: "gpt-realtime", config });
        this.transport.on("*", (event) => {
            const complained = complaint(event);
            if (complained) this.complaints.push(complained);
            this.events.add(event);
        });
        this.session.on("error", (error) => this.complaints.push({ type: "sdk.error", error: JSON.stringify(error) }));
    }

    // Returns when the session's settings are acknowledged; the SDK would go on without, after 5 s.
    async connect(key) {
        const began = performance.now();
        await this.session.connect({ apiKey: key });
        return { callId: this.transport.callId, ms: performance.now() - began };
    }

    // Sound of the answer, from now on.
    async hears() {
        const before = await this.#energy();
        await reached(async () => (await this.#energy()) > before + AUDIBLE, "sound");
    }

    // No sound for a while.
    async hearsNothing() {
        let [energy, since] = [await this.#energy(), performance.now()];
        await reached(async () => {
            const now = await this.#energy();
            if (now > energy + AUDIBLE) [energy, since] = [now, performance.now()];
            return performance.now() - since > QUIET_MS;
        }, "silence");
    }

    // So much more time of the microphone.
    async speaks(seconds) {
        const captured = async () => (await this.#stats("media-source")).totalSamplesDuration;
        const end = (await captured()) + seconds;
        await reached(async () => (await captured()) > end, `${seconds} s of speech`);
    }

    // The sound of the turn that is committed now, as the server has it.
    async commits() {
        const number = this.events.of("input_audio_buffer.committed").length + 1;
        this.transport.sendEvent({ type: "input_audio_buffer.commit" });
        const { item_id } = await this.events.until("input_audio_buffer.committed", number);
        this.transport.sendEvent({ type: "conversation.item.retrieve", item_id });
        for (let nth = 1; ; nth += 1) { // the SDK asks for items as well
            const { item } = await this.events.until("conversation.item.retrieved", nth);
            if (item.id === item_id) return item.content[0].audio;
        }
    }

    async closed() {
        await reached(() => this.transport.status === "disconnected", "end of the call");
    }

    get microphone() {
        return this.peer.getSenders()[0].track;
    }

    async #energy() {
        return (await this.#stats("inbound-rtp")).totalAudioEnergy ?? 0;
    }

    async #stats(type) {
        return [...(await this.peer.getStats()).values()].find((entry) => entry.type === type) ?? {};
    }

    #weather() {
        return tool({
            name: "get_weather",
            description: "The weather of a city",
            parameters: {
                type: "object",
                properties: { city: { type: "string" } },
                required: ["city"],
                additionalProperties: false,
            },
            execute: async (given) => {
                this.toolCalls.push(given);
                return `sunny in ${given.city}`;
            },
        });
    }
}
