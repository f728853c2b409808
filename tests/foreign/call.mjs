// One call of a peer, run as: node call.mjs PEER INPUTS. It speaks when its input ends, hears the answer, and then hangs
// up itself or waits until the bridge does.

import { endOfInput, inputs, observe } from "./peer.mjs";

const { call } = await import(`./${process.argv[2]}.mjs`);
const started = endOfInput();
const peer = await call();
observe({ type: "peer.connected", call_id: peer.callId });
await started;
await peer.speak(inputs);
await peer.events.until("response.done");
await peer.events.until("output_audio_buffer.stopped");
observe({ type: "peer.heard", ...peer.heard() });
if (inputs.hangsUp) await peer.close();
else await peer.gone;
observe({ type: "peer.gone" });
if (!inputs.hangsUp) await peer.close();
setTimeout(() => process.exit(0), 500).unref(); // libraries keep threads; the goodbye gets its moment
