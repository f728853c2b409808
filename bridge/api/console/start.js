/** Before all else: a page of which a part did not come is loaded again, once. If that does not help, it says so. */

{
  const AGAIN = "bridge.loaded-again";
  const isPart = ({ target }) => target instanceof HTMLScriptElement || target instanceof HTMLLinkElement;
  const tell = () => {
    const node = document.getElementById("server");
    node.dataset.state = "silent";
    node.textContent = "a part of this page did not come from the server: load it again";
  };

  addEventListener(
    "error",
    (failure) => {
      if (!isPart(failure)) return;
      if (sessionStorage.getItem(AGAIN) === null) {
        sessionStorage.setItem(AGAIN, "once");
        location.reload();
      } else if (document.readyState === "loading") {
        document.addEventListener("DOMContentLoaded", tell);
      } else {
        tell();
      }
    },
    { capture: true },
  );
  // The window is told of no other load than its own.
  document.addEventListener("load", ({ target }) => target.type === "module" && sessionStorage.removeItem(AGAIN), { capture: true });
}
