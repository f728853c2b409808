// An operator with Firefox at the bridge's console: looks at Operations, finds a call's log, and listens to the call.
// Run as: node console.mjs operations INPUTS. What is heard goes to the sound card; the rest is seen on the page.

import { readFile } from "node:fs/promises";

import puppeteer from "puppeteer-core";

import { endOfInput, inputs, observe } from "./peer.mjs";

const LIMIT_MS = 20_000 * Number(process.env.TEST_SLOWNESS ?? 2);

const spoken = endOfInput();
const browser = await puppeteer.launch({
    browser: "firefox",
    executablePath: inputs.firefox,
    userDataDir: inputs.profile,
    env: process.env,
    extraPrefsFirefox: {
        "media.autoplay.default": 0,
        "media.cubeb_latency_mtg_frames": 4096, // a busy machine gives no thread its turn each 10 ms
        "layout.css.prefers-color-scheme.content-override": 0, // dark
    },
    timeout: LIMIT_MS,
});
try {
    const [page] = await browser.pages();
    page.setDefaultTimeout(LIMIT_MS);
    await page.setViewport({ width: 1440, height: 900 });
    const faults = [];
    page.on("pageerror", (error) => faults.push(String(error)));
    await page.goto(`${inputs.url}#operations`);
    await page.evaluate(await readFile("node_modules/axe-core/axe.min.js", "utf8"));
    const complaints = () => page.evaluate(async () => {
        const { violations } = await globalThis.axe.run(document, { resultTypes: ["violations"] });
        return violations.flatMap(({ id, nodes }) => nodes.map(({ html }) => `${id}: ${html}`));
    });
    const text = (selector) => page.$eval(selector, (element) => element.textContent.trim());
    const button = (name) => page.waitForSelector(`::-p-aria(${name}[role="button"])`);

    await page.waitForSelector("#ops-calls tbody tr");
    await page.waitForSelector('#server[data-state="ready"]');
    await (await button(`Log and figures of ${inputs.callId}`)).click();
    await page.waitForSelector("#ops-calls .more");
    observe({
        type: "page.operations",
        version: await browser.version(),
        charts: await page.$$eval("#charts svg", (charts) => charts.map((chart) => chart.getAttribute("aria-label"))),
        command: await text("#ops-calls .more code:last-of-type, #ops-calls .command code"),
        complaints: await complaints(),
    });
    await (await button(`Listen to ${inputs.callId}`)).click();
    await page.waitForSelector('#listening-state[data-state="listening"]');
    observe({ type: "page.listening", state: await text("#listening-state") });
    await page.waitForSelector("#listening-turns .turn.answer");
    await spoken;
    observe({ type: "page.heard", turns: await text("#listening-turns"), complaints: await complaints() });
    await page.keyboard.press("Escape");
    await page.waitForSelector("#listening[hidden]");
    observe({ type: "page.closed", faults });
} finally {
    await browser.close();
}
