/** A few clients that always follow the fuzzed channels: publications, user messages and revocations have a receiver. */
import { setTimeout as pause } from "node:timers/promises";
import { RawClient } from "../../test/support/raw-client.ts";

const channels = ["fuzz:0", "fuzz:1", "fuzz:2", "open:0", "open:1"];
/** Some inputs end the sessions of the audience. */
const reconnectAfterMs = 100;

export class Audience {
  readonly #url: URL;
  readonly #ending = new AbortController();
  readonly #clients = new Set<RawClient>();
  readonly #members: readonly Promise<void>[];

  /** @param tokens one for each member. */
  constructor(url: URL, tokens: readonly string[]) {
    this.#url = url;
    this.#members = tokens.map(async (token) => this.#follow(token));
  }

  async stop(): Promise<void> {
    this.#ending.abort();
    for (const client of this.#clients) client.socket.destroy();
    await Promise.all(this.#members);
  }

  async #follow(token: string): Promise<void> {
    const { signal } = this.#ending;
    while (!signal.aborted) {
      const client = await RawClient.connect(this.#url, token).catch(() => undefined);
      if (client) {
        this.#clients.add(client);
        if (signal.aborted) client.socket.destroy();
        for (const channel of channels) void client.request("sync:subscribe", { channel });
        await client.closed;
        this.#clients.delete(client);
      }
      await pause(reconnectAfterMs, undefined, { signal }).catch(() => undefined);
    }
  }
}
