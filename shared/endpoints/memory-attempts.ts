import {
  type Attempt,
  type AttemptLog,
  type EndpointHealth,
  type FailedAttempt,
  keptAttempts,
  type StoredAttempt,
} from "./contract.ts";
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

  async addSuccess(endpointId: string, attempt: Attempt): Promise<void> {
    this.#keep(endpointId, attempt).since = null;
  }

  async addFailure(endpointId: string, attempt: FailedAttempt): Promise<EndpointHealth> {
    const kept = this.#keep(endpointId, attempt);
    kept.since ??= String(attempt.at);
    kept.last = failureText(attempt);
    return parseHealth([kept.since, kept.last]);
  }

  #keep(endpointId: string, attempt: Attempt): Kept {
    const kept = this.#kept.get(endpointId) ?? { attempts: [], since: null, last: null };
    this.#kept.set(endpointId, kept);
    kept.attempts.push({ id: `${++this.#added}-0`, ...attempt });
    if (kept.attempts.length > keptAttempts) kept.attempts.shift();
    return kept;
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
