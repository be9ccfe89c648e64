/** What the pages of all examples do alike. */

/** A demo's tokens are for all callers. */
export async function fetchToken(user) {
  const response = await fetch(`/demo/token?user=${encodeURIComponent(user)}`);
  if (!response.ok) throw new Error(`no token: ${response.status}`);
  return (await response.json()).token;
}

/** Shows the client's state in the page's head. */
export function showState({ status, reason }) {
  const words = { connecting: "Connecting", connected: "Live", waiting: "Reconnecting", closed: "Offline" };
  const badge = document.querySelector("#state");
  badge.textContent = words[status];
  badge.dataset.status = status;
  badge.title = reason?.message ?? "";
}

/** Shows a text for five seconds. */
export function notify(text) {
  const notice = document.querySelector("#notice");
  notice.textContent = text;
  notice.hidden = false;
  clearTimeout(notify.timer);
  notify.timer = setTimeout(() => (notice.hidden = true), 5_000);
}
