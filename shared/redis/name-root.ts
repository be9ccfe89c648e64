/** What the names of a deployment's keys and topics begin with, and those of no other deployment on the same Redis. Pure. */

export const defaultPrefix = "tidegate";
/** Without `{`, where the hash tag of every name begins, and without `@`, behind which the database stands. */
export const prefixPattern = /^[A-Za-z0-9_.:/-]{1,64}$/;

/** Pub/sub ignores the database, so its number is part of the name. Database 0 and the default prefix make `tidegate`. */
export function nameRoot(prefix: string, database: number): string {
  return database === 0 ? prefix : `${prefix}@${database}`;
}
