/** Caches a JSON document of another server and refreshes it: one fetch at a time, with a pause after failures. */

export interface FetchTiming {
  /** For one fetch. */
  timeoutMs: number;
  /** An older document is fetched again on the next use. */
  maxAgeMs: number;
  /** While fetching fails, the document is used up to this age. */
  maxStaleMs: number;
  /** Shortest time between a fetch and one that {@link FetchedDocument.newerThan} triggers. */
  cooldownMs: number;
  /** Shortest time between a failed fetch and the next one; until then {@link FetchFailed} is thrown at once. */
  failureCooldownMs: number;
}

/** Fetching failed, and no usable document is cached. */
export class FetchFailed extends Error {
  constructor(url: URL, cause: unknown) {
    super(`${url.href} cannot be fetched: ${cause instanceof Error ? cause.message : String(cause)}`, { cause });
    this.name = "FetchFailed";
  }
}

export class FetchedDocument<Value> {
  readonly #url: URL;
  readonly #read: (json: unknown) => Value;
  readonly #timing: FetchTiming;
  #value: Value | undefined;
  #fetchedAt = -Infinity;
  #failure: FetchFailed | undefined;
  #failedAt = -Infinity;
  #fetching: Promise<Value> | undefined;

  /** @param options.read parses the document. If it throws, the fetch counts as failed. */
  constructor(options: { url: URL; read: (json: unknown) => Value; timing: FetchTiming }) {
    this.#url = options.url;
    this.#read = options.read;
    this.#timing = options.timing;
  }

  /** @throws FetchFailed */
  async current(): Promise<Value> {
    const { maxAgeMs, maxStaleMs } = this.#timing;
    if (this.#value !== undefined && this.#ageMs < maxAgeMs) return this.#value;
    try {
      return await this.#fetchOnce();
    } catch (error) {
      if (this.#value !== undefined && this.#ageMs < maxStaleMs) return this.#value;
      throw error;
    }
  }

  /** For a value that lacks something. Undefined: the document is too recent to be fetched again. @throws FetchFailed */
  async newerThan(value: Value): Promise<Value | undefined> {
    if (this.#value !== undefined && this.#value !== value) return this.#value;
    return this.#ageMs < this.#timing.cooldownMs ? undefined : this.#fetchOnce();
  }

  get #ageMs(): number {
    return performance.now() - this.#fetchedAt;
  }

  async #fetchOnce(): Promise<Value> {
    if (this.#failure && performance.now() - this.#failedAt < this.#timing.failureCooldownMs) throw this.#failure;
    this.#fetching ??= this.#fetch().finally(() => {
      this.#fetching = undefined;
    });
    return this.#fetching;
  }

  async #fetch(): Promise<Value> {
    try {
      const answer = await fetch(this.#url, {
        headers: { accept: "application/json" },
        redirect: "error",
        signal: AbortSignal.timeout(this.#timing.timeoutMs),
      });
      if (answer.status !== 200) {
        await answer.body?.cancel();
        throw new Error(`answered ${answer.status}`);
      }
      const value = this.#read(await answer.json());
      [this.#value, this.#fetchedAt, this.#failure] = [value, performance.now(), undefined];
      return value;
    } catch (error) {
      this.#failedAt = performance.now();
      this.#failure = new FetchFailed(this.#url, error);
      throw this.#failure;
    }
  }
}
