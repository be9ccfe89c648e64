import type { Cells } from "./cells.ts";

interface FleetTopicListener {
  onMessage(message: string): void;
  /** The topic is followed, for the first time or again: messages may have been lost before. */
  onFollowed?(): void;
}

/** Follows one topic of the fleet. Subscribes until that succeeds once; after that the connections keep the subscription. */
export class FleetTopic {
  readonly #cells: Pick<Cells, "fleet">;
  readonly #topic: string;
  readonly #listener: FleetTopicListener;
  #endListening: (() => void) | undefined;
  #isStopped = false;
  #following: Promise<void> | undefined;

  constructor(cells: Pick<Cells, "fleet">, topic: string, listener: FleetTopicListener) {
    this.#cells = cells;
    this.#topic = topic;
    this.#listener = listener;
  }

  /** Subscribes, or tries again whenever Redis returns. Idempotent. */
  async start(): Promise<void> {
    await this.follow().catch(() => undefined);
  }

  /** As {@link start}. @throws the client's error where Redis is away. */
  async follow(): Promise<void> {
    if (!this.#endListening) {
      this.#endListening = this.#cells.fleet.topics.listen({
        onMessage: (topic, message) => {
          if (topic === this.#topic) this.#listener.onMessage(message);
        },
        onRestored: () => void this.#restore().catch(() => undefined),
      });
      await this.#restore();
    } else await this.#subscribe();
  }

  stop(): void {
    this.#isStopped = true;
    this.#endListening?.();
  }

  async #restore(): Promise<void> {
    await this.#subscribe();
    if (!this.#isStopped) this.#listener.onFollowed?.();
  }

  async #subscribe(): Promise<void> {
    this.#following ??= this.#cells.fleet.topics.subscribe(this.#topic).catch((error: unknown) => {
      this.#following = undefined;
      throw error;
    });
    await this.#following;
  }
}
