/** Why something failed, for people. A name with several addresses fails with an error for each of them, and has no message of its own. Pure. */
export function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const [first] = error instanceof AggregateError ? (error.errors as unknown[]) : [];
  return error.message || (first instanceof Error ? first.message : error.name);
}
