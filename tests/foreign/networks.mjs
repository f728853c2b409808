// Callers in all kinds of networks, run as: node networks.mjs chromium|firefox|libwebrtc INPUTS. Each line of the input is
// a command, each line of the output what came of it. One program makes many calls, one after the other.

import readline from "node:readline";

import { inputs, observe } from "./peer.mjs";

const LIMIT_MS = 20_000 * Number(process.env.TEST_SLOWNESS ?? 2);

// What follows runs in a page, or in Node where libwebrtc has put its names beside the others.

async function connect({ url, key, relay, limit_s }) {
    const headers = { Authorization: `Bearer ${key}` };
    const configuration = {};
    if (relay) {
        const { iceServers } = await (await fetch(`${url}v1/realtime/ice_servers`, { headers })).json();
        if (relay.at) for (const server of iceServers) server.urls = [`${relay.scheme}:${relay.at}?transport=${relay.transport}`];
        else for (const server of iceServers) server.urls = server.urls.filter((one) => one.startsWith(`${relay.scheme}:`) && one.endsWith(`=${relay.transport}`));
        Object.assign(configuration, { iceServers, iceTransportPolicy: "relay" });
    }
    const track = await globalThis.openMicrophone();
    const began = performance.now();
    const connection = new RTCPeerConnection(configuration);
    connection.addTrack(track);
    connection.ontrack = ({ track: heard }) => {
        if (!globalThis.Audio) return;
        globalThis.loudspeaker = new Audio();
        loudspeaker.srcObject = new MediaStream([heard]);
        loudspeaker.play().catch(() => {});
    };
    const channel = connection.createDataChannel("oai-events");
    const created = new Promise((resolve) => (channel.onmessage = ({ data }) => resolve(JSON.parse(data).type)));
    const signal = async (path, more) => {
        await connection.setLocalDescription(await connection.createOffer({ iceRestart: Boolean(more) }));
        const post = async () => {
            const reply = await fetch(`${url}v1/realtime/${path}`, {
                method: "POST",
                headers: { ...headers, ...more, "Content-Type": "application/sdp" },
                body: connection.localDescription.sdp,
                signal: more && AbortSignal.timeout(300), // a connection from the old address hangs
            });
            return [reply, await reply.text()]; // which the signal ends as well
        };
        let answered;
        while (!answered) answered = await post().catch((error) => { if (!more) throw error; });
        const [reply, answer] = answered;
        if (reply.status !== 201) throw new Error(`HTTP ${reply.status}: ${answer}`);
        await connection.setRemoteDescription({ type: "answer", sdp: answer });
        return reply.headers;
    };
    const answered = await signal("calls");
    const callId = answered.get("Location").split("/").pop();
    const resumeKey = answered.get("Bridge-Resume-Key");
    const late = limit_s && new Promise((_, reject) => setTimeout(() => reject(new Error("not connected")), 1000 * limit_s));
    const first = await (late ? Promise.race([created, late]) : created);
    const took = performance.now() - began;
    globalThis.call = {
        track,
        connection,
        restart: () => signal(`calls/${callId}`, { "Bridge-Resume-Key": resumeKey }),
    };
    return { call_id: callId, first, ms: Math.round(took) };
}

async function heard() {
    const entries = [...(await call.connection.getStats()).values()];
    const inbound = entries.find(({ type, kind }) => type === "inbound-rtp" && kind !== "video");
    return { packets: inbound?.packetsReceived ?? 0 };
}

async function restart() {
    const began = performance.now();
    await call.restart();
    return { ms: Math.round(performance.now() - began) };
}

async function hangUp() {
    call.connection.close();
    call.track.stop?.();
    return {};
}

async function openMicrophone() {
    const sound = await navigator.mediaDevices.getUserMedia({ audio: true });
    return sound.getTracks()[0];
}

const DOES = { connect, heard, restart, hang_up: hangUp };

// A browser: a page of the bridge's own for each call, so that it has the origin of its key.

async function browser() {
    const { default: puppeteer } = await import("puppeteer-core");
    const isFirefox = process.argv[2] === "firefox";
    const opened = await puppeteer.launch({
        browser: isFirefox ? "firefox" : "chrome",
        executablePath: inputs.executable,
        userDataDir: inputs.profile,
        timeout: LIMIT_MS,
        protocolTimeout: LIMIT_MS,
        args: isFirefox ? [] : inputs.flags,
        extraPrefsFirefox: {
            "media.navigator.permission.disabled": true,
            "media.navigator.streams.fake": true,
            "media.autoplay.default": 0,
            "media.devices.insecure.enabled": true,
            "media.getusermedia.insecure.enabled": true,
        },
    });
    let page;
    return {
        version: await opened.version(),
        async run(name, command) {
            if (name === "connect") {
                await page?.close();
                page = await opened.newPage();
                page.setDefaultTimeout(LIMIT_MS);
                for (let tries = 1; ; tries += 1) {
                    try {
                        await page.goto(`${command.url}healthz`);
                        break;
                    } catch (error) {
                        if (tries === 10) throw error; // "the network has changed", as it does for each test
                        await new Promise((resolve) => setTimeout(resolve, 200));
                    }
                }
                await page.evaluate(`globalThis.openMicrophone = ${openMicrophone}`);
            }
            return JSON.parse(await page.evaluate(`(${DOES[name]})(${JSON.stringify(command)}).then(JSON.stringify)`));
        },
        close: () => opened.close(),
    };
}

async function libwebrtc() {
    const { default: wrtc } = await import("@roamhq/wrtc");
    globalThis.RTCPeerConnection = wrtc.RTCPeerConnection;
    let ticking;
    globalThis.openMicrophone = async () => {
        clearInterval(ticking);
        const source = new wrtc.nonstandard.RTCAudioSource();
        let at = 0;
        ticking = setInterval(() => {
            const samples = Int16Array.from({ length: 480 }, () => 8000 * Math.sin((2 * Math.PI * 440 * at++) / 48_000));
            source.onData({ samples, sampleRate: 48_000, bitsPerSample: 16, channelCount: 1, numberOfFrames: 480 });
        }, 10);
        return source.createTrack();
    };
    return {
        version: "@roamhq/wrtc",
        run: (name, command) => DOES[name](command),
        close: async () => setTimeout(() => process.exit(0), 200).unref(),
    };
}

const peer = await (process.argv[2] === "libwebrtc" ? libwebrtc() : browser());
observe({ type: "peer.ready", version: peer.version });
for await (const line of readline.createInterface({ input: process.stdin })) {
    const command = JSON.parse(line);
    try {
        observe({ type: `done.${command.do}`, number: command.number, ...(await peer.run(command.do, command)) });
    } catch (error) {
        observe({ type: `done.${command.do}`, number: command.number, failed: String(error.stack ?? error).slice(0, 2000) });
    }
}
await peer.close();
