/** The text that begins the names of a deployment's keys and topics; unique among deployments on one Redis. Pure. */

export const defaultPrefix = "tidegate";
/** Excludes `{`, which begins the hash tag, and `@`, which separates the number of the database. */
export const prefixPattern = /^[A-Za-z0-9_.:/-]{1,64}$/;

/** Pub/sub ignores the database, so its number is part of the name. Database 0 and the default prefix make `tidegate`. */
export function nameRoot(prefix: string, database: number): string {
  return database === 0 ? prefix : `${prefix}@${database}`;
}
