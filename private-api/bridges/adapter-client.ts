import type { Argument } from "../../shared/redis/client.ts";

interface AdapterActions {
  send: (command: string, values: readonly Argument[]) => Promise<unknown>;
  subscribe: (command: string, values: readonly Argument[]) => void;
  readStream: (values: readonly Argument[]) => Promise<unknown>;
  onMessage: (event: string, listener: (...values: Buffer[]) => unknown) => void;
}

/** The members of a client of ioredis that the adapters use; one object stands for all of their connections. */
export class AdapterClient {
  readonly options = { lazyConnect: false };
  readonly #actions: AdapterActions;

  constructor(actions: AdapterActions) {
    this.#actions = actions;
  }

  duplicate(): this {
    return this;
  }

  async publish(channel: string, payload: Argument): Promise<unknown> {
    return this.#actions.send("publish", [channel, payload]);
  }

  async spublish(channel: string, payload: Argument): Promise<unknown> {
    return this.#actions.send("spublish", [channel, payload]);
  }

  async xadd(values: readonly Argument[]): Promise<unknown> {
    return this.#actions.send("xadd", values);
  }

  async xread(...values: Argument[]): Promise<unknown> {
    return this.#actions.readStream(values);
  }

  psubscribe(...patterns: string[]): void {
    this.#actions.subscribe("psubscribe", patterns);
  }

  subscribe(...channels: (string | string[])[]): void {
    this.#actions.subscribe("subscribe", channels.flat());
  }

  ssubscribe(...channels: (string | string[])[]): void {
    this.#actions.subscribe("ssubscribe", channels.flat());
  }

  /** Messages only: what happens to the connections concerns the session. */
  on(event: string, listener: (...values: Buffer[]) => unknown): void {
    if (/^p?s?message/.test(event)) this.#actions.onMessage(event, listener);
  }

  /** The session closes its connections as a whole. */
  off(): void {}
  punsubscribe(): void {}
  unsubscribe(): void {}
  sunsubscribe(): void {}
  disconnect(): void {}
}
