import type { Cells } from "./cells.ts";
import { FleetTopic } from "./fleet-topic.ts";

/** Tells listeners that something of the fleet has changed, or may have: after each message of one topic, and whenever Redis returns. */
export class ChangeTopic {
  readonly #topic: FleetTopic;
  readonly #listeners: (() => void)[] = [];

  constructor(cells: Pick<Cells, "fleet">, topic: string) {
    const notify = (): void => {
      for (const listener of this.#listeners) listener();
    };
    this.#topic = new FleetTopic(cells, topic, { onMessage: notify, onFollowed: notify });
  }

  async start(): Promise<void> {
    await this.#topic.start();
  }

  async stop(): Promise<void> {
    this.#topic.stop();
  }

  listen(listener: () => void): void {
    this.#listeners.push(listener);
  }
}
