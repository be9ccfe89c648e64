import type { Bootstrap, ReconnectPolicy, WireError } from "../../../shared/protocol/wire.ts";
import { parseRetryAfter } from "../../../shared/protocol/retry-after.ts";
import { failure, TidegateError } from "../api/errors.ts";

const bootstrapDeadlineMs = 10_000;

/** The gateway's URL: fixed, or from `GET /v1/bootstrap` before each connect. */
export class GatewayAddress {
  readonly #url: string | undefined;
  readonly #endpoint: string | undefined;
  #bootstrap: Bootstrap | null = null;
  #request: AbortController | null = null;

  /** @throws {TidegateError} `invalid_request`, unless exactly one of the two is given, and `url` is an origin */
  constructor({ url, bootstrap }: { url?: string | undefined; bootstrap?: string | undefined }) {
    if ((url === undefined) === (bootstrap === undefined)) {
      throw failure(
        "invalid_request",
        "pass either url, the gateway's origin, or bootstrap, the endpoint that names it",
      );
    }
    this.#url = url === undefined ? undefined : originOf(url);
    this.#endpoint = bootstrap;
  }

  /** The endpoint's last answer. */
  get bootstrap(): Bootstrap | null {
    return this.#bootstrap;
  }

  /** The last address is on this machine. */
  get isLoopback(): boolean {
    const { hostname = "" } = parsed(this.lastUrl ?? "") ?? {};
    return /^(.+\.)?localhost$|^127\.[\d.]+$|^\[::1\]$/.test(hostname);
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

/** @throws {TidegateError} `invalid_request`: anything after the host would be ignored */
function originOf(url: string): string {
  const { pathname, search, hash, username, password } = parsed(url) ?? {};
  if (isWeb(url) && pathname === "/" && !search && !hash && !username && !password) return url;
  const more = isWeb(url) ? "without path, query, hash, user or password" : "beginning with https:// or http://";
  throw failure("invalid_request", `url must be the gateway's origin, such as https://sync.example.com, ${more}`);
}

function isWeb(url: string): boolean {
  return ["http:", "https:", "ws:", "wss:"].includes(parsed(url)?.protocol ?? "");
}

/** Without both times the client would retry without a pause. */
function isPolicy(policy: Partial<ReconnectPolicy> | undefined): policy is ReconnectPolicy {
  return [policy?.minDelayMs, policy?.windowMs].every((ms) => typeof ms === "number" && ms >= 0);
}

function parsed(url: string): URL | undefined {
  try {
    return new URL(url);
  } catch {
    return undefined;
  }
}

async function fetchBootstrap(endpoint: string, token: string, signal: AbortSignal): Promise<Bootstrap> {
  const response = await fetch(endpoint, {
    headers: { authorization: `Bearer ${token}` },
    cache: "no-store",
    signal,
  }).catch((cause: unknown) => {
    const why = cause instanceof Error ? `: ${cause.message}` : "";
    throw unavailable(`no response from ${endpoint}${why}`, { cause });
  });
  const body: unknown = await response.json().catch(() => undefined);
  if (!response.ok) throw refusal(response, body);
  const { url, reconnect, group, config } = (body ?? {}) as Partial<Bootstrap>;
  if (typeof url !== "string" || !isWeb(url) || !isPolicy(reconnect)) throw unavailable("malformed response");
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
