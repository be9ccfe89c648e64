import { reasonOf } from "../runtime/reason-of.ts";

/** Why a `fetch` failed: the reason, with the address, is in the cause of its error. */
export function fetchFailure(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const { message, cause } = error;
  if (!(cause instanceof Error)) return message;
  return `${message}: ${reasonOf(cause)}`;
}
