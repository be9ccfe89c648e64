/** Claims that are sent together. A slot that does not answer holds up the next round only for a moment. */
import type { ClaimReply, ClaimRequest, QueueStore } from "../../shared/queues/contract.ts";

/** A round ends this long after its first answer: slots that can be reached answer together. */
const stragglersMs = 50;
/** A round without any answer ends after this. */
const silenceMs = 250;

/** When a claim was sent, and whether its reply came in time. */
export interface Asked {
  /** When the claim was sent, by `performance.now()`. The store leased the queues after that. */
  askedAt: number;
  /** The reply came after its round had ended. The dispatcher works on its leases even if no worker is free. */
  isLate: boolean;
}

export interface ClaimRoundsOptions {
  store: Pick<QueueStore, "claim">;
  onReply: (request: ClaimRequest, reply: ClaimReply, how: Asked) => void;
  /** Called once for all slots that failed with the same error. */
  onFailure: (slots: readonly number[], error: unknown) => void;
}

export class ClaimRounds {
  readonly #options: ClaimRoundsOptions;
  readonly #open = new Set<Promise<unknown>>();

  constructor(options: ClaimRoundsOptions) {
    this.#options = options;
  }

  /** Passes replies on as they arrive. @returns the requests that have no answer when the round ends. */
  async run(requests: readonly ClaimRequest[]): Promise<readonly ClaimRequest[]> {
    const { store, onReply, onFailure } = this.#options;
    const unanswered = new Set(requests);
    const failures = new Map<unknown, number[]>();
    const { promise: ended, resolve: end } = Promise.withResolvers<void>();
    let isOver = false;
    let timer = setTimeout(end, silenceMs);
    const fail = (slot: number, error: unknown): void => {
      const together = failures.get(error);
      if (together) return void together.push(slot);
      const slots = [slot];
      failures.set(error, slots);
      // The other requests of the same call fail within this turn of the event loop.
      setImmediate(() => onFailure(slots, error));
    };
    const { promise: all, resolve: endAll } = Promise.withResolvers<void>();
    const answered = (request: ClaimRequest): void => {
      unanswered.delete(request);
      if (unanswered.size > 0) return;
      this.#open.delete(all);
      endAll();
    };
    const take = (request: ClaimRequest, reply: ClaimReply): void => {
      try {
        if (!isOver && unanswered.size === requests.length) {
          clearTimeout(timer);
          timer = setTimeout(end, stragglersMs);
        }
        onReply(request, reply, { askedAt, isLate: isOver });
      } catch (error) {
        fail(request.slot, error);
      }
      answered(request);
    };
    const askedAt = performance.now();
    const claims = store.claim(requests);
    this.#open.add(all);
    for (const [index, request] of requests.entries()) {
      // Without a claim the request would never count as answered, and the dispatcher never stop.
      const claim = claims[index] ?? Promise.reject(new Error("the queue store returned no claim for a request"));
      claim.then(
        (reply) => take(request, reply),
        (error: unknown) => {
          fail(request.slot, error);
          answered(request);
        },
      );
    }
    await Promise.race([all, ended]);
    isOver = true;
    clearTimeout(timer);
    return [...unanswered];
  }

  /** Resolves when every claim has its answer. */
  async settled(): Promise<void> {
    await Promise.all(this.#open);
  }
}
