import type { Bootstrap, WireError } from "../../../shared/protocol/wire.ts";
import { parseRetryAfter } from "../../../shared/protocol/retry-after.ts";
import { failure, TidegateError } from "../api/errors.ts";

const bootstrapDeadlineMs = 10_000;

/** The gateway's URL: fixed, or from `GET /v1/bootstrap` before each connect. */
export class GatewayAddress {
  readonly #url: string | undefined;
  readonly #endpoint: string | undefined;
  #bootstrap: Bootstrap | null = null;
  #request: AbortController | null = null;

  /** @throws {TidegateError} `invalid_request`, unless exactly one of the two is given */
  constructor({ url, bootstrap }: { url?: string | undefined; bootstrap?: string | undefined }) {
    if ((url === undefined) === (bootstrap === undefined)) {
      throw failure(
        "invalid_request",
        "pass either url, the gateway's origin, or bootstrap, the endpoint that names it",
      );
    }
    this.#url = url;
    this.#endpoint = bootstrap;
  }

  /** The endpoint's last answer. */
  get bootstrap(): Bootstrap | null {
    return this.#bootstrap;
  }

  /** Sends no request. */
  get lastUrl(): string | undefined {
    return this.#url ?? this.#bootstrap?.url;
  }

  /**
   * Asks the endpoint, if there is one; falls back to its last answer when it is unavailable.
   *
   * @throws {TidegateError} the endpoint's refusal; `bootstrap_unavailable` without an earlier answer
   */
  async resolve(token: string): Promise<string> {
    if (this.#endpoint === undefined) return this.#url ?? "";
    this.#request = new AbortController();
    const timer = setTimeout(() => this.#request?.abort(new Error("timed out")), bootstrapDeadlineMs);
    try {
      this.#bootstrap = await fetchBootstrap(this.#endpoint, token, this.#request.signal);
    } catch (error) {
      if (!(error instanceof TidegateError) || error.code !== "bootstrap_unavailable" || !this.#bootstrap) throw error;
    } finally {
      clearTimeout(timer);
    }
    return this.#bootstrap.url;
  }

  /** Aborts the request under way. */
  close(): void {
    this.#request?.abort();
  }
}

async function fetchBootstrap(endpoint: string, token: string, signal: AbortSignal): Promise<Bootstrap> {
  const response = await fetch(endpoint, {
    headers: { authorization: `Bearer ${token}` },
    cache: "no-store",
    signal,
  }).catch((cause: unknown) => {
    throw unavailable("no response", { cause });
  });
  const body: unknown = await response.json().catch(() => undefined);
  if (!response.ok) throw refusal(response, body);
  const { url, reconnect, group, config } = (body ?? {}) as Partial<Bootstrap>;
  if (typeof url !== "string" || typeof reconnect?.windowMs !== "number") throw unavailable("malformed response");
  return { url, reconnect, group: group ?? "default", config: config ?? {} };
}

/** The gateway's HTTP problem. Any other error body, e.g. a load balancer's, means that the endpoint is unavailable. */
function refusal({ status, headers }: Response, body: unknown): TidegateError {
  const problem = (body ?? {}) as Partial<WireError> & { detail?: string };
  const { code, detail, retryable, retryAfterMs } = problem;
  if (typeof code !== "string" || typeof retryable !== "boolean") {
    return unavailable(`status ${status}`, {
      retryAfterMs: parseRetryAfter(headers.get("retry-after") ?? "", Date.now()),
    });
  }
  const message = detail ?? code;
  return new TidegateError({ code, message, retryable, ...(retryAfterMs !== undefined && { retryAfterMs }) });
}

function unavailable(why: string, more: { retryAfterMs?: number | undefined; cause?: unknown } = {}): TidegateError {
  const { retryAfterMs, cause } = more;
  const message = `bootstrap endpoint unavailable: ${why}`;
  return new TidegateError(
    { code: "bootstrap_unavailable", message, retryable: true, ...(retryAfterMs !== undefined && { retryAfterMs }) },
    { cause },
  );
}
