import type { Cells } from "./cells.ts";

/** Tells listeners that something of the fleet has changed, or may have: after each message of one topic, and whenever Redis returns. */
export class ChangeTopic {
  readonly #cells: Pick<Cells, "fleet">;
  readonly #topic: string;
  readonly #listeners: (() => void)[] = [];
  #subscribed = false;

  constructor(cells: Pick<Cells, "fleet">, topic: string) {
    this.#cells = cells;
    this.#topic = topic;
  }

  async start(): Promise<void> {
    this.#cells.fleet.topics.listen({
      onMessage: (topic) => {
        if (topic === this.#topic) this.#notify();
      },
      onRestored: () => void this.#subscribe(),
    });
    await this.#subscribe();
  }

  async stop(): Promise<void> {
    this.#listeners.length = 0;
  }

  listen(listener: () => void): void {
    this.#listeners.push(listener);
  }

  /** Subscribes until it succeeds once; after that the connections keep the subscription. Called again whenever Redis returns. */
  async #subscribe(): Promise<void> {
    if (!this.#subscribed) {
      try {
        await this.#cells.fleet.topics.subscribe(this.#topic);
        this.#subscribed = true;
      } catch {
        return;
      }
    }
    this.#notify();
  }

  #notify(): void {
    for (const listener of this.#listeners) listener();
  }
}
