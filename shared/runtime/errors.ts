import { excerpt } from "./excerpt.ts";
import { type RequestCode, requestCodes, type WireError } from "../protocol/codes.ts";

export interface ErrorOptions {
  /** Where it differs from that of the code. */
  retryable?: boolean;
  retryAfterMs?: number | undefined;
  /** HTTP status of the service, if it answered. */
  status?: number;
  /** `ce-id` of the request to a service. */
  requestId?: string | undefined;
  /** Of a hook that refused: clients get it in place of `code`. */
  serviceCode?: string | undefined;
  cause?: unknown;
  /** The single findings, if there are several. */
  errors?: readonly string[];
  /** Further members of the HTTP problem, e.g. the position of a conflict. */
  details?: Readonly<Record<string, unknown>>;
  /** Further members of the HTTP problem, as JSON text. */
  jsonMembers?: Readonly<Record<string, string>>;
}

/** Bounds a message that contains findings; `errors` lists each of them as well. */
const maxMessageLength = 1_000;

/** An operational failure with a code of the wire contract: an ack error for a client, an HTTP problem for a service. */
export class TidegateError extends Error {
  readonly code: RequestCode;
  readonly options: Omit<ErrorOptions, "cause">;

  constructor(code: RequestCode, message: string, options: ErrorOptions = {}) {
    const { cause, ...others } = options;
    super(excerpt(message, maxMessageLength), { cause });
    this.name = "TidegateError";
    this.code = code;
    this.options = others;
  }

  get retryable(): boolean {
    return this.options.retryable ?? requestCodes[this.code].retryable;
  }

  get httpStatus(): number {
    return requestCodes[this.code].status;
  }

  toWire(): WireError {
    const { retryAfterMs, status, requestId, serviceCode } = this.options;
    return {
      code: serviceCode ?? this.code,
      message: this.message,
      retryable: this.retryable,
      ...(retryAfterMs !== undefined && { retryAfterMs }),
      ...(status !== undefined && { status }),
      ...(requestId !== undefined && { requestId }),
    };
  }
}
