/** Asks where to connect: `GET /v1/bootstrap`. */
import type { Bootstrap, WireError } from "../../../shared/protocol/wire.ts";
import { parseRetryAfter } from "../../../shared/protocol/retry-after.ts";
import { failure, TidegateError } from "../api/errors.ts";

const answerDeadlineMs = 10_000;

/** Where a client connects: at a given address, or where the bootstrap endpoint says each time it is asked. */
export class Address {
  readonly #url: string | undefined;
  readonly #bootstrap: string | undefined;
  #answer: Bootstrap | null = null;
  #asking: AbortController | null = null;

  /** @throws {TidegateError} `invalid_request`, unless exactly one of both is given */
  constructor({ url, bootstrap }: { url?: string | undefined; bootstrap?: string | undefined }) {
    if ((url === undefined) === (bootstrap === undefined)) {
      throw failure("invalid_request", "give either url, the gateway's address, or bootstrap, where to ask for it");
    }
    this.#url = url;
    this.#bootstrap = bootstrap;
  }

  /** The endpoint's last answer. */
  get answer(): Bootstrap | null {
    return this.#answer;
  }

  /** The last one, without asking. */
  get known(): string | undefined {
    return this.#url ?? this.#answer?.url;
  }

  /**
   * Where the endpoint cannot be asked, the address known from before.
   *
   * @throws {TidegateError} what the endpoint refused with; `bootstrap_unavailable`, where it cannot be asked
   */
  async find(token: string): Promise<string> {
    if (this.#bootstrap === undefined) return this.#url ?? "";
    this.#asking = new AbortController();
    const timer = setTimeout(() => this.#asking?.abort(new Error("no answer in time")), answerDeadlineMs);
    try {
      this.#answer = await ask(this.#bootstrap, token, this.#asking.signal);
    } catch (error) {
      if (!(error instanceof TidegateError) || error.code !== "bootstrap_unavailable" || !this.#answer) throw error;
    } finally {
      clearTimeout(timer);
    }
    return this.#answer.url;
  }

  /** Nobody waits for an answer any more. */
  close(): void {
    this.#asking?.abort();
  }
}

async function ask(endpoint: string, token: string, signal: AbortSignal): Promise<Bootstrap> {
  const response = await fetch(endpoint, {
    headers: { authorization: `Bearer ${token}` },
    cache: "no-store",
    signal,
  }).catch((cause: unknown) => {
    throw unavailable("it does not answer", { cause });
  });
  const body: unknown = await response.json().catch(() => undefined);
  if (!response.ok) throw refusal(response, body);
  const { url, reconnect, group, config } = (body ?? {}) as Partial<Bootstrap>;
  if (typeof url !== "string" || typeof reconnect?.windowMs !== "number") throw unavailable("its answer is none");
  return { url, reconnect, group: group ?? "default", config: config ?? {} };
}

/** An HTTP problem of the gateway; from anybody else, such as a balancer, it only says that the endpoint is not there. */
function refusal({ status, headers }: Response, body: unknown): TidegateError {
  const problem = (body ?? {}) as Partial<WireError> & { detail?: string };
  const { code, detail, retryable, retryAfterMs } = problem;
  if (typeof code !== "string" || typeof retryable !== "boolean") {
    return unavailable(`it answers ${status}`, {
      retryAfterMs: parseRetryAfter(headers.get("retry-after") ?? "", Date.now()),
    });
  }
  const message = detail ?? code;
  return new TidegateError({ code, message, retryable, ...(retryAfterMs !== undefined && { retryAfterMs }) });
}

function unavailable(why: string, more: { retryAfterMs?: number | undefined; cause?: unknown } = {}): TidegateError {
  const { retryAfterMs, cause } = more;
  const message = `the bootstrap endpoint could not be asked: ${why}`;
  return new TidegateError(
    { code: "bootstrap_unavailable", message, retryable: true, ...(retryAfterMs !== undefined && { retryAfterMs }) },
    { cause },
  );
}
