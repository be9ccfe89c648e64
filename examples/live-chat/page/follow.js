import { notify } from "./demo.js";

/**
 * Keeps a model as new as a channel: its history first, then each publication. The model takes publications in any order
 * and repeatedly, as they arrive while the history is read.
 *
 * @param model has `apply(event, data, offset)` and `clear()`
 * @param render called after each change
 * @returns a function that stops
 */
export function follow(channel, events, model, render) {
  let isStopped = false;
  const listening = events.map((event) =>
    channel.on(event, (data, { offset }) => {
      model.apply(event, data, offset);
      render();
    }),
  );
  // A gap that the history cannot bridge: what is kept is all there is.
  listening.push(
    channel.onResync(() => {
      model.clear();
      void load();
    }),
  );
  listening.push(channel.onEnd(({ code, reason }) => notify(`${channel.name} is closed: ${reason} (${code})`)));
  // `onEnd` reports a refusal.
  channel.subscribe().then(load, () => {});

  async function load() {
    try {
      let page;
      for (let after; !page || after < page.position.offset;) {
        page = await channel.history(after === undefined ? {} : { after });
        if (isStopped) return;
        for (const { event, data, offset } of page.publications) model.apply(event, data, offset);
        after = page.publications.at(-1)?.offset ?? page.position.offset;
      }
      render();
    } catch (error) {
      // Where the history has changed since its first page, it is read again.
      const isOutdated = ["history_trimmed", "epoch_changed"].includes(error.code);
      if (!isStopped && (error.retryable || isOutdated)) setTimeout(load, 1_000);
    }
  }

  return () => {
    isStopped = true;
    for (const remove of listening) remove();
    channel.unsubscribe();
  };
}
