/** What this client presents to be let in: the token, and what stands for it after the first welcome. */
import { protocolVersion } from "../../../shared/protocol/limits.ts";
import { failure } from "../api/errors.ts";

const tokenDeadlineMs = 15_000;

/** `auth` of a handshake. `moves`: this client obeys `sync:drain`. */
export type Auth = { token: string; protocol: number; moves: true; resume?: string };

/** A JWT, or a function that gives one. */
export type TokenSource = string | (() => string | Promise<string>);

/** What a refusal or a dismissal leaves to try. */
export type Prospect =
  /** The same credentials may do later. */
  | "same"
  /** Others may do at once. */
  | "others"
  /** There are no others. */
  | "none";

/**
 * The source is asked where nothing else can do: before the first welcome, after a refusal, and for a refresh. With a
 * resume token in hand a reconnect asks nobody, so that a storm of them leaves the application's token service alone.
 */
export class Credentials {
  readonly #source: TokenSource;
  #token: string | null = null;
  #resumeToken: string | null = null;

  constructor(source: TokenSource) {
    this.#source = source;
  }

  /** A text stays what it is; a function may give another. */
  get renewable(): boolean {
    return typeof this.#source !== "string";
  }

  /** For the next handshake. @throws {TidegateError} `token_unavailable`: the source threw, or took longer than 15 s */
  async present(): Promise<Auth> {
    try {
      if (this.#token === null || this.#resumeToken === null) this.#token = await this.ask();
    } catch (cause) {
      throw failure("token_unavailable", "the token callback failed", true, cause);
    }
    const resume = this.#resumeToken;
    return { token: this.#token, protocol: protocolVersion, moves: true, ...(resume !== null && { resume }) };
  }

  /** A token for a refresh; it is presented from `renewed` on. @throws what the source throws, or where it takes longer */
  async ask(): Promise<string> {
    if (typeof this.#source === "string") return this.#source;
    let timer: ReturnType<typeof setTimeout> | undefined;
    const late = new Promise<never>((_, reject) => {
      timer = setTimeout(() => reject(new Error(`no token within ${tokenDeadlineMs} ms`)), tokenDeadlineMs);
    });
    try {
      return await Promise.race([this.#source(), late]);
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

  /** The gateway did not let these credentials in. */
  refused(code: string): Prospect {
    if (code !== "unauthenticated" && code !== "token_expired") return "same";
    const resumed = this.#resumeToken !== null;
    this.#resumeToken = null;
    // A text that has expired stays so; one that is sound may have been refused for the resume token beside it.
    if (!this.renewable) return resumed && code === "unauthenticated" ? "others" : "none";
    return resumed || code === "token_expired" ? "others" : "none";
  }

  /** The gateway ended the session. What resumes it still may; a text that has expired will not do again. */
  dismissed(code: string): Prospect {
    if (code !== "token_expired") return "same";
    return this.renewable ? "others" : "none";
  }
}
