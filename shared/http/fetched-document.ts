/** A JSON document of another server, kept in memory and fetched again in good time: never twice at once, and not at every failure. */

export interface FetchTiming {
  /** Of one fetch. */
  timeoutMs: number;
  /** Fetched again when it is older and somebody asks. */
  maxAgeMs: number;
  /** In force for so long where it cannot be fetched again. */
  maxStaleMs: number;
  /** Between a fetch and the next one that is made because something is not in the document. */
  cooldownMs: number;
  /** Between a fetch that failed and the next one; until then there is no answer, at once. */
  failureCooldownMs: number;
}

/** The document cannot be fetched, and there is none that would do. */
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

  /** @param options.read throws where the document is not what it should be: that counts as a fetch that failed. */
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

  /** For what a document lacks. Undefined: it was fetched a moment ago, there is no newer one. @throws FetchFailed */
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
