/** From what the Redis client fails with to an error of the contract. */
import { TidegateError } from "../runtime/errors.ts";
import { isTimeout } from "./connect.ts";
import { refusalOf } from "./refusals.ts";

/** What a stall or a first reconnect usually needs. */
const retryAfterMs = 1_000;

export function brokerUnavailable(message: string, cause?: unknown): TidegateError {
  return new TidegateError("broker_unavailable", message, { retryAfterMs, cause });
}

/** A store that cannot be asked is `broker_unavailable`. @throws the error itself where the store refused our command. */
export async function orBrokerUnavailable<Reply>(reply: Promise<Reply>): Promise<Reply> {
  try {
    return await reply;
  } catch (error) {
    const known = error as Error & { command?: unknown };
    // The client hangs the command on its error, arguments and all: data and secrets that no log may show.
    delete known.command;
    const refusal = refusalOf(known);
    if (refusal) throw brokerUnavailable(`the message store refuses: ${refusal.reason}`, known);
    if (known.name === "ReplyError") throw known;
    const message = isUnanswered(known)
      ? "the message store did not answer: it may still have done what it was asked"
      : "the message store cannot be reached";
    throw brokerUnavailable(message, known);
  }
}

/** Sent, and the connection broke or was cut before the reply. */
function isUnanswered(error: Error): boolean {
  return isTimeout(error) || error.message === "Connection is closed.";
}
