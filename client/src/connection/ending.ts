/** What the end of a connection says, in the words of an error. */
import type { Disconnect, WireError } from "../../../shared/protocol/wire.ts";
import type { Ending } from "./connection.ts";
import { TidegateError } from "../api/errors.ts";

export type Word = WireError | TidegateError;

export function errorOf(word: Word): TidegateError {
  return word instanceof TidegateError ? word : new TidegateError(word);
}

export function wordOf(ending: Ending): Word {
  if (ending.kind === "refused") return ending.refusal;
  if (ending.kind === "dismissed") return wordOfDismissal(ending.disconnect);
  const message = ending.kind === "lost" ? ending.message : "the connection was left";
  return { code: "connection_lost", message, retryable: true };
}

function wordOfDismissal({ code, reason, reconnect, retryAfterMs }: Disconnect): WireError {
  return { code, message: reason, retryable: reconnect, ...(retryAfterMs !== undefined && { retryAfterMs }) };
}
