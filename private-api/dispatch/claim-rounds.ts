/** Claims that are sent together. A slot that does not answer holds up the next round only for a moment. */
import type { ClaimReply, ClaimRequest, QueueStore } from "../../shared/queues/contract.ts";

/** A round ends this long after its first answer: slots that can be reached answer together. */
const stragglersMs = 50;
/** A round without any answer ends after this. */
const silenceMs = 250;

export interface ClaimRoundsOptions {
  store: Pick<QueueStore, "claim">;
  /** `late`: its round has ended. What it leased is worked on beyond the number of workers. */
  onReply: (request: ClaimRequest, reply: ClaimReply, late: boolean) => void;
  /** Once for all slots that one error has failed. */
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
    const take = async (request: ClaimRequest, claim: Promise<ClaimReply> | undefined): Promise<void> => {
      try {
        const reply = await claim;
        if (!isOver && unanswered.size === requests.length) {
          clearTimeout(timer);
          timer = setTimeout(end, stragglersMs);
        }
        if (reply) onReply(request, reply, isOver);
      } catch (error) {
        fail(request.slot, error);
      } finally {
        unanswered.delete(request);
      }
    };
    const claims = store.claim(requests);
    const all = Promise.all(requests.map(async (request, index) => take(request, claims[index])));
    this.#open.add(all);
    void all.finally(() => this.#open.delete(all));
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
