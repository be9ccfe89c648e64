import { type Attempt, type AttemptLog, type EndpointHealth, keptAttempts, type StoredAttempt } from "./contract.ts";
import { failureText, parseHealth } from "./keys.ts";

interface Kept {
  /** Oldest first. */
  attempts: StoredAttempt[];
  since: string | null;
  last: string | null;
}

/** The attempts of a single process, lost when it ends. */
export class MemoryAttemptLog implements AttemptLog {
  readonly #kept = new Map<string, Kept>();
  #added = 0;

  async start(): Promise<void> {}
  async stop(): Promise<void> {}

  async add(endpointId: string, attempt: Attempt): Promise<EndpointHealth> {
    const kept = this.#kept.get(endpointId) ?? { attempts: [], since: null, last: null };
    this.#kept.set(endpointId, kept);
    kept.attempts.push({ id: `${++this.#added}-0`, ...attempt });
    if (kept.attempts.length > keptAttempts) kept.attempts.shift();
    const failure = failureText(attempt);
    if (failure === "") kept.since = null;
    else {
      kept.since ??= String(attempt.at);
      kept.last = `${attempt.at} ${failure}`;
    }
    return parseHealth([kept.since, kept.last]);
  }

  async attempts(
    endpointId: string,
    { limit, after }: { limit: number; after?: string },
  ): Promise<readonly StoredAttempt[]> {
    const newestFirst = (this.#kept.get(endpointId)?.attempts ?? []).toReversed();
    const older = after === undefined ? newestFirst : newestFirst.filter(({ id }) => placeOf(id) < placeOf(after));
    return older.slice(0, limit);
  }

  async health(endpointIds: readonly string[]): Promise<readonly EndpointHealth[]> {
    return endpointIds.map((id) => {
      const { since = null, last = null } = this.#kept.get(id) ?? {};
      return parseHealth([since, last]);
    });
  }

  async forgive(endpointId: string): Promise<void> {
    const kept = this.#kept.get(endpointId);
    if (kept) kept.since = null;
  }

  async forget(endpointId: string): Promise<void> {
    this.#kept.delete(endpointId);
  }
}

function placeOf(id: string): number {
  return Number.parseInt(id, 10);
}
