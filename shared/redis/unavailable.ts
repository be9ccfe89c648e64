/** Maps failures of the Redis client to errors of the wire contract. */
import { TidegateError } from "../runtime/errors.ts";
import { isTimeout } from "./client.ts";
import { refusalOf } from "./refusals.ts";

/** Long enough for a stall or a first reconnect to end. */
const retryAfterMs = 1_000;

export function brokerUnavailable(message: string, cause?: unknown): TidegateError {
  return new TidegateError("broker_unavailable", message, { retryAfterMs, cause });
}

/** @throws TidegateError `broker_unavailable` where Redis cannot serve; the original error where Redis rejects the command as wrong. */
export async function orBrokerUnavailable<Reply>(reply: Promise<Reply>): Promise<Reply> {
  try {
    return await reply;
  } catch (error) {
    const known = error as Error & { command?: unknown };
    // The client attaches the command with its arguments: data and secrets that must not be logged.
    delete known.command;
    const refusal = refusalOf(known);
    if (refusal) throw brokerUnavailable(`the message store refuses: ${refusal.reason}`, known);
    if (known.name === "ReplyError") throw known;
    const message = isUnanswered(known)
      ? "the message store did not answer: the command may have taken effect"
      : "the message store cannot be reached";
    throw brokerUnavailable(message, known);
  }
}

/** The command was sent, and the connection broke or was cut before the reply. */
function isUnanswered(error: Error): boolean {
  // The client refuses commands that it has not sent with other errors.
  return isTimeout(error) || error.name === "MaxRetriesPerRequestError" || error.message === "Connection is closed.";
}
