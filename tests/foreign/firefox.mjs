// A person with Firefox at the bridge's console: presses Talk, speaks, hears the answer, and hangs up or is hung up on.
// Run as: node firefox.mjs console INPUTS. What is said and heard goes by the sound card; the rest is seen on the page.

import puppeteer from "puppeteer-core";

import { endOfInput, inputs, observe } from "./peer.mjs";

const LIMIT_MS = 20_000 * Number(process.env.TEST_SLOWNESS ?? 2);

const started = endOfInput();
const browser = await puppeteer.launch({
    browser: "firefox",
    executablePath: inputs.firefox,
    userDataDir: inputs.profile,
    env: process.env,
    extraPrefsFirefox: {
        "media.navigator.permission.disabled": true,
        "media.autoplay.default": 0,
        "media.cubeb_latency_mtg_frames": 4096, // a busy machine gives no thread its turn each 10 ms
        "media.devices.insecure.enabled": true, // a page of another machine, without a certificate
        "media.getusermedia.insecure.enabled": true,
    },
    timeout: LIMIT_MS,
});
try {
    const [page] = await browser.pages();
    page.setDefaultTimeout(LIMIT_MS);
    const complaints = [];
    page.on("pageerror", (error) => complaints.push(String(error)));
    await page.goto(inputs.url);
    await page.evaluate(() => {
        // Speech that was cleaned of noise and brought to a level is not the speech that a test can compare.
        const devices = navigator.mediaDevices;
        const open = devices.getUserMedia.bind(devices);
        const asItIs = { echoCancellation: false, noiseSuppression: false, autoGainControl: false };
        devices.getUserMedia = ({ audio }) => open({ audio: { ...audio, ...asItIs } });
    });
    const event = (type) => page.waitForSelector(`#events .event[data-type="${type}"]`);
    const state = (name) => page.waitForSelector(`#state[data-state="${name}"]`);
    if (inputs.key) {
        await page.click("#settings summary");
        await page.type("#key", inputs.key);
        await page.click("#settings summary");
    }
    await page.click("#talk");
    await state("connected");
    await event("session.created");
    const callId = await page.$eval("#call-id", (element) => element.textContent);
    observe({ type: "peer.connected", call_id: callId, version: await browser.version() });
    await started;
    await event("output_audio_buffer.stopped");
    const told = await page.$eval("#error", (element) => (element.hidden ? "" : element.textContent.trim()));
    observe({ type: "peer.heard", complaints: [...complaints, ...(told ? [told] : [])] });
    if (inputs.hangsUp) await page.click("#hangup");
    await state("closed");
    observe({ type: "peer.gone", state: await page.$eval("#state", (element) => element.textContent) });
} finally {
    await browser.close();
}
