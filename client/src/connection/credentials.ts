/** What the client presents in a handshake: the token and, after the first welcome, a resume token. */
import { protocolVersion } from "../../../shared/protocol/limits.ts";
import { failure } from "../api/errors.ts";

const tokenDeadlineMs = 15_000;

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
  #token: string | null = null;
  #resumeToken: string | null = null;

  constructor(source: TokenSource) {
    this.#source = source;
  }

  /** Only a function can return another token. */
  get renewable(): boolean {
    return typeof this.#source !== "string";
  }

  /** @throws {TidegateError} `token_unavailable`: the token function threw, or took longer than 15 s */
  async forHandshake(): Promise<HandshakeAuth> {
    try {
      if (this.#token === null || this.#resumeToken === null) this.#token = await this.fetchToken();
    } catch (cause) {
      throw failure("token_unavailable", "the token function failed", true, cause);
    }
    const resume = this.#resumeToken;
    return { token: this.#token, protocol: protocolVersion, moves: true, ...(resume !== null && { resume }) };
  }

  /** Handshakes present this token only after `renewed()`. @throws what the token function throws, or on its timeout */
  async fetchToken(): Promise<string> {
    if (typeof this.#source === "string") return this.#source;
    let timer: ReturnType<typeof setTimeout> | undefined;
    const timeout = new Promise<never>((_, reject) => {
      timer = setTimeout(() => reject(new Error(`no token within ${tokenDeadlineMs} ms`)), tokenDeadlineMs);
    });
    try {
      return await Promise.race([this.#source(), timeout]);
    } finally {
      clearTimeout(timer);
    }
  }

  welcomed(resumeToken: string | null): void {
    this.#resumeToken = resumeToken;
  }

  renewed(token: string, resumeToken: string | null): void {
    this.#token = token;
    this.#resumeToken = resumeToken;
  }

  /** The gateway refused the handshake. */
  refused(code: string): RetryWith {
    if (code !== "unauthenticated" && code !== "token_expired") return "same";
    const resumed = this.#resumeToken !== null;
    this.#resumeToken = null;
    // An expired fixed token stays expired; `unauthenticated` may be due to the resume token beside a valid one.
    if (!this.renewable) return resumed && code === "unauthenticated" ? "fresh" : "none";
    return resumed || code === "token_expired" ? "fresh" : "none";
  }

  /** The gateway ended the session: the resume token stays valid, an expired fixed token does not. */
  disconnected(code: string): RetryWith {
    if (code !== "token_expired") return "same";
    return this.renewable ? "fresh" : "none";
  }
}
