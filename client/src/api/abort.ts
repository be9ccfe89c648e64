import { failure, type TidegateError } from "./errors.ts";

/** Calls `abort` once the signal aborts, if it has not yet. @returns a function that stops listening */
export function onAbort(signal: AbortSignal | undefined, abort: (error: TidegateError) => void): () => void {
  if (!signal) return () => undefined;
  const aborted = (): void => abort(abortedBy(signal));
  signal.addEventListener("abort", aborted, { once: true });
  return () => signal.removeEventListener("abort", aborted);
}

export function abortedBy(signal: AbortSignal): TidegateError {
  return failure("aborted", "the application's signal aborted", false, signal.reason);
}
