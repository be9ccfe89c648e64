/** What the client presents in a handshake: the token and, after the first welcome, a resume token. */
import { protocolVersion } from "../../../shared/protocol/limits.ts";
import { failure, type TidegateError } from "../api/errors.ts";
import type { ConnectionEnd } from "./connection-end.ts";
import { lifetimeMsOf } from "./token-lifetime.ts";

const tokenDeadlineMs = 15_000;
/** What fits a bearer header (RFC 6750). An error page, JSON and markup do not. */
const tokenPattern = /^[A-Za-z0-9\-._~+/]+=*$/;

/** `auth` of a handshake. `moves`: this client obeys `sync:drain`. */
export type HandshakeAuth = { token: string; protocol: number; moves: true; resume?: string };

/** A JWT, or a function that returns one. */
export type TokenSource = string | (() => string | Promise<string>);

/** Which credentials the next attempt can present. */
export type RetryWith =
  /** The same ones, later. */
  | "same"
  /** Others than were refused, at once. */
  | "fresh"
  /** There are none: the client closes. */
  | "none";

/**
 * Calls the token function only before the first welcome, after a refusal, and for a refresh. A reconnect presents the
 * resume token, so mass reconnects do not reach the application's token service.
 */
export class Credentials {
  readonly #source: TokenSource;
  readonly #closed = new AbortController();
  #token: string | null = null;
  #resumeToken: string | null = null;
  /** The gateway refused the last token as `unauthenticated`, and the function was called once more. */
  #askedAgain = false;
  /** The gateway asked for a newer token since the function was last called. */
  outdated = false;
  /** The call of the function that is under way. */
  #fetching: Promise<string> | null = null;

  /** @throws {TidegateError} `invalid_request`, if `source` is neither a token nor a function */
  constructor(source: TokenSource) {
    const given: unknown = source;
    if (typeof given !== "function" && (typeof given !== "string" || given === "")) {
      throw failure("invalid_request", "token must be a JWT, or a function that returns one");
    }
    this.#source = source;
  }

  /** Only a function can return another token. */
  get renewable(): boolean {
    return typeof this.#source !== "string";
  }

  /** Of the last token; undefined where it does not tell. */
  get lifetimeMs(): number | undefined {
    return this.#token === null ? undefined : lifetimeMsOf(this.#token);
  }

  /** @throws {TidegateError} `token_unavailable`: the token function threw, took longer than 15 s, or returned no token */
  async forHandshake(): Promise<HandshakeAuth> {
    try {
      if (this.#token === null || this.#resumeToken === null) this.#token = await this.fetchToken();
    } catch (cause) {
      const why = cause instanceof Error ? `: ${cause.message}` : "";
      throw failure("token_unavailable", `the token function failed${why}`, true, cause);
    }
    const resume = this.#resumeToken;
    return { token: this.#token, protocol: protocolVersion, moves: true, ...(resume !== null && { resume }) };
  }

  /**
   * Handshakes present this token only after `renewed()`. The function is called once at a time.
   *
   * @throws what the token function throws; on its timeout, after `close()`, and if it returns no token
   */
  async fetchToken(): Promise<string> {
    const source = this.#source;
    if (typeof source === "string") return source;
    this.#fetching ??= this.#callSource(source).finally(() => (this.#fetching = null));
    return this.#fetching;
  }

  async #callSource(source: () => string | Promise<string>): Promise<string> {
    this.outdated = false;
    const { signal } = this.#closed;
    const { promise: deadline, stop } = deadlineOf(signal);
    try {
      const returned: unknown = await Promise.race([source(), deadline]);
      const token = readToken(returned);
      if (token !== null) return token;
      throw new Error(typeof returned === "string" ? "it returned a text that is no JWT" : "it returned no string");
    } finally {
      stop();
    }
  }

  welcomed(resumeToken: string | null): void {
    this.#resumeToken = resumeToken;
    this.#askedAgain = false;
  }

  renewed(token: string, resumeToken: string | null): void {
    this.#token = token;
    this.welcomed(resumeToken);
  }

  /** After the end of an attempt or a connection. */
  retryWith({ kind }: ConnectionEnd, { code, retryable }: TidegateError): RetryWith {
    if (kind !== "refused" && kind !== "disconnected") return "same";
    const retryWith = kind === "refused" ? this.#refused(code) : this.#disconnected(code);
    return retryWith === "same" && !retryable ? "none" : retryWith;
  }

  /** The gateway refused the handshake. */
  #refused(code: string): RetryWith {
    if (code !== "unauthenticated" && code !== "token_expired") return "same";
    const resumed = this.#resumeToken !== null;
    this.#resumeToken = null;
    // An expired fixed token stays expired; `unauthenticated` may be due to the resume token beside a valid one.
    if (!this.renewable) return resumed && code === "unauthenticated" ? "fresh" : "none";
    if (code === "token_expired") return "fresh";
    if (this.#askedAgain) return "none";
    this.#askedAgain = true;
    return "fresh";
  }

  /** The gateway ended the session: the resume token stays valid, an expired fixed token does not. */
  #disconnected(code: string): RetryWith {
    if (code !== "token_expired") return "same";
    return this.renewable ? "fresh" : "none";
  }

  /** Final. Ends the wait for a token. */
  close(): void {
    this.#closed.abort(new Error("the client was closed"));
  }
}

/** Without white space around it, such as a final line break; `null` for anything that cannot be a JWT. */
function readToken(value: unknown): string | null {
  const text = typeof value === "string" ? value.trim() : "";
  return tokenPattern.test(text) ? text : null;
}

/** Rejects after 15 s, or with the signal. `stop()` releases the timer and the signal. */
function deadlineOf(signal: AbortSignal): { promise: Promise<never>; stop(): void } {
  let stop = (): void => undefined;
  const promise = new Promise<never>((_, reject) => {
    const aborted = (): void => {
      stop();
      reject(signal.reason as Error);
    };
    const timer = setTimeout(() => reject(new Error(`no token within ${tokenDeadlineMs} ms`)), tokenDeadlineMs);
    signal.addEventListener("abort", aborted);
    stop = () => {
      clearTimeout(timer);
      signal.removeEventListener("abort", aborted);
    };
  });
  return { promise, stop };
}
