// Large events both ways, run as: node large.mjs PEER INPUTS. Each item that it creates comes back twice, whole.

import { Events } from "../sdk_js/waiting.mjs";
import { inputs, observe } from "./peer.mjs";

const { call } = await import(`./${process.argv[2]}.mjs`);
const texts = [];
for (let number = 0; number < inputs.events; number += 1) {
    const words = Array.from({ length: inputs.chars / 6 }, (_, at) => 10_000 + ((number + 7 * at) % 90_000));
    texts.push(`${number}: ${words.join(" ")}`);
}
const events = new Events();
const peer = await call(events);
observe({ type: "peer.connected", call_id: peer.callId });
for (const text of texts) {
    const content = [{ type: "input_text", text }];
    peer.send({ type: "conversation.item.create", item: { type: "message", role: "user", content } });
}
const isAnswered = () => events.of("conversation.item.done").length + events.of("error").length >= texts.length;
await Promise.race([events.wait(isAnswered, "answer"), peer.gone]);
const came = (type) => events.of(type).map(({ item }) => item.content[0].text);
observe({
    type: "peer.told",
    added: came("conversation.item.added").map((text, number) => text === texts[number]),
    done: came("conversation.item.done").map((text, number) => text === texts[number]),
    errors: events.of("error").map(({ error }) => error.message),
});
await peer.close();
setTimeout(() => process.exit(0), 500).unref();
