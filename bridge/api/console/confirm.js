/** Asks before something that cannot be undone. */

import { setText } from "./dom.js";

const dialog = document.getElementById("confirm");

/** Resolves to whether it is wanted. `yes` is the word on the button that does it. */
export function confirmed(title, text, yes) {
  setText(document.getElementById("confirm-title"), title);
  setText(document.getElementById("confirm-text"), text);
  setText(document.getElementById("confirm-yes"), yes);
  dialog.returnValue = "no";
  dialog.showModal();
  return new Promise((resolve) => dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true }));
}

/** Before somebody else's call is ended. */
export const confirmHangUp = (id) => confirmed("Hang up this call?", `${id} ends at once, for its caller and all listeners.`, "Hang up");
