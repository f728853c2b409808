// The npm package @copilotkit/aimock: a service of Realtime and chat completions that nobody of us wrote, until its input
// ends.

import { LLMock } from "@copilotkit/aimock";

import { inputs, observe, run } from "./scenario.mjs";

await run({
    async service() {
        const service = new LLMock({ port: 0 });
        for (const [id, answer] of Object.entries(inputs.results ?? {})) service.onToolResult(id, { content: answer });
        for (const [said, call] of Object.entries(inputs.calls ?? {})) service.onMessage(said, { toolCalls: [call] });
        for (const [said, answer] of Object.entries(inputs.answers)) service.onMessage(said, { content: answer });
        await service.start();
        observe({ type: "sdk.serving", url: service.url });
        process.stdin.resume();
        await new Promise((resolve) => process.stdin.on("end", resolve));
        await service.stop();
    },
});
