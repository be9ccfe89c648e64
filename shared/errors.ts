import { type RequestCode, requestCodes, type WireError } from "./protocol/codes.ts";

interface ErrorOptions {
  retryAfterMs?: number;
  /** HTTP status of the service, where it answered. */
  status?: number;
  cause?: unknown;
  /** Single findings, when there are several. */
  errors?: readonly string[];
  /** Further members of the HTTP problem, e.g. the position of a conflict. */
  details?: Readonly<Record<string, unknown>>;
}

/** An operational failure with a code of the contract: an ack error to a client, a problem to a service. */
export class TidegateError extends Error {
  readonly code: RequestCode;
  readonly options: ErrorOptions;

  constructor(code: RequestCode, message: string, options: ErrorOptions = {}) {
    super(message, { cause: options.cause });
    this.name = "TidegateError";
    this.code = code;
    this.options = options;
  }

  get retryable(): boolean {
    return requestCodes[this.code].retryable;
  }

  get httpStatus(): number {
    return requestCodes[this.code].status;
  }

  toWire(): WireError {
    const { retryAfterMs, status } = this.options;
    return {
      code: this.code,
      message: this.message,
      retryable: this.retryable,
      ...(retryAfterMs !== undefined && { retryAfterMs }),
      ...(status !== undefined && { status }),
    };
  }
}

/** The broker cannot be asked. `retryAfterMs` is the time a first reconnect usually needs. */
function brokerUnavailable(cause: unknown): TidegateError {
  return new TidegateError("broker_unavailable", "the message store cannot be reached", {
    retryAfterMs: 1_000,
    cause,
  });
}

/** Whatever the client of the message store fails with means that it cannot be asked. */
export async function orBrokerUnavailable<Reply>(reply: Promise<Reply>): Promise<Reply> {
  try {
    return await reply;
  } catch (error) {
    throw brokerUnavailable(error);
  }
}
