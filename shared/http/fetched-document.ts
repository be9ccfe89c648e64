/** Caches a JSON document of another server and refreshes it: bounded, one fetch at a time, with a pause after failures. */
import { parseBody } from "./body.ts";
import { fetchFailure } from "./fetch-failure.ts";

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

/** Of a document, decompressed. */
const maxDocumentBytes = 256 * 1024;
/** Brackets, commas and colons of a document. A JWKS of a hundred keys has about 3,000. */
const maxDocumentStructure = 16_384;

/** Fetching failed, and no usable document is cached. */
export class FetchFailed extends Error {
  constructor({ origin, pathname }: URL, cause: unknown) {
    // Without the query, which may contain a secret.
    super(`${origin}${pathname} cannot be fetched: ${fetchFailure(cause)}`, { cause });
    this.name = "FetchFailed";
  }
}

interface FetchedDocumentOptions<Value> {
  url: URL;
  /** Checks the parsed document. If it throws, the fetch counts as failed. */
  read: (json: unknown) => Value;
  timing: FetchTiming;
  /** Called after a failed fetch, unless the one before it failed for the same reason */
  onFailure: (failure: FetchFailed) => void;
}

export class FetchedDocument<Value> {
  readonly #options: FetchedDocumentOptions<Value>;
  #value: Value | undefined;
  #fetchedAt = -Infinity;
  #failure: FetchFailed | undefined;
  #failedAt = -Infinity;
  #fetching: Promise<Value> | undefined;

  constructor(options: FetchedDocumentOptions<Value>) {
    this.#options = options;
  }

  /** @throws FetchFailed */
  async current(): Promise<Value> {
    const { maxAgeMs, maxStaleMs } = this.#options.timing;
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
    return this.#ageMs < this.#options.timing.cooldownMs ? undefined : this.#fetchOnce();
  }

  get #ageMs(): number {
    return performance.now() - this.#fetchedAt;
  }

  async #fetchOnce(): Promise<Value> {
    if (this.#failure && performance.now() - this.#failedAt < this.#options.timing.failureCooldownMs)
      throw this.#failure;
    this.#fetching ??= this.#fetch().finally(() => {
      this.#fetching = undefined;
    });
    return this.#fetching;
  }

  async #fetch(): Promise<Value> {
    try {
      const answer = await fetch(this.#options.url, {
        headers: { accept: "application/json" },
        redirect: "error",
        signal: AbortSignal.timeout(this.#options.timing.timeoutMs),
      });
      if (answer.status !== 200) {
        await answer.body?.cancel();
        throw new Error(`answered ${answer.status}`);
      }
      const value = this.#options.read(parseBody(await boundedBody(answer), maxDocumentStructure));
      [this.#value, this.#fetchedAt, this.#failure] = [value, performance.now(), undefined];
      return value;
    } catch (error) {
      const failure = new FetchFailed(this.#options.url, error);
      const isNews = failure.message !== this.#failure?.message;
      [this.#failure, this.#failedAt] = [failure, performance.now()];
      if (isNews) this.#options.onFailure(failure);
      throw failure;
    }
  }
}

async function boundedBody(answer: Response): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  // Leaving the loop early closes the connection.
  for await (const chunk of answer.body ?? []) {
    bytes += chunk.length;
    if (bytes > maxDocumentBytes) throw new Error(`the answer is larger than ${maxDocumentBytes} bytes`);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}
