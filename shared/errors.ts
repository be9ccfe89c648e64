import { type RequestCode, requestCodes, type WireError } from "./protocol/codes.ts";

interface ErrorOptions {
  retryAfterMs?: number | undefined;
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
  readonly options: Omit<ErrorOptions, "cause">;

  constructor(code: RequestCode, message: string, options: ErrorOptions = {}) {
    const { cause, ...others } = options;
    super(message, { cause });
    this.name = "TidegateError";
    this.code = code;
    this.options = others;
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

/** Replies of a Redis that cannot do its work now. Other error replies are bugs of ours. */
const redisTrouble =
  /^(OOM|READONLY|LOADING|MASTERDOWN|NOREPLICAS|CLUSTERDOWN|MISCONF|BUSY|TRYAGAIN|MOVED|ASK|NOAUTH|NOPERM|WRONGPASS)\b/;
/** Sent, and the connection broke or was cut before the reply. */
function isUnanswered({ message }: Error): boolean {
  return message === "Command timed out" || message === "Connection is closed.";
}

/** What a first reconnect usually needs. */
const brokerRetryMs = 1_000;

/** A store that cannot be asked is `broker_unavailable`. @throws the error itself where the store refused our command. */
export async function orBrokerUnavailable<Reply>(reply: Promise<Reply>): Promise<Reply> {
  try {
    return await reply;
  } catch (error) {
    const known = error as Error & { command?: unknown };
    // The client hangs the command on its error, arguments and all: data and secrets that no log may show.
    delete known.command;
    if (known.name === "ReplyError" && !redisTrouble.test(known.message)) throw known;
    const message = isUnanswered(known)
      ? "the message store did not answer: it may still have done what it was asked"
      : "the message store cannot be reached";
    throw new TidegateError("broker_unavailable", message, {
      retryAfterMs: brokerRetryMs,
      cause: known,
    });
  }
}
