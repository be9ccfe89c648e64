/** Where somebody stands in a rollout: the same everywhere and for ever. */
import { createHash } from "node:crypto";

/** Shares are told to a hundredth of a percent. */
export const pointCount = 10_000;
export const pointsPerPercent = pointCount / 100;

/** A part of a percent that no point stands for would be rounded unseen. */
export function isTellable(percent: number): boolean {
  const points = percent * pointsPerPercent;
  return Math.abs(points - Math.round(points)) < 1e-6;
}

/** A user is one within a tenant. A client that says no user has an id of its own. */
export type Subject = { user: string; tenant: string | undefined } | { client: string } | { tenant: string };

/**
 * A point from 0 to 9,999, evenly spread: the first 48 bits of SHA-256, modulo 10,000.
 * @param salt of the rollout: another one spreads the same subjects differently.
 */
export function pointOf(salt: string, subject: Subject): number {
  return (
    createHash("sha256")
      .update(JSON.stringify([salt, ...identityOf(subject)]))
      .digest()
      .readUIntBE(0, 6) % pointCount
  );
}

function identityOf(subject: Subject): (string | null)[] {
  if ("client" in subject) return ["client", subject.client];
  if ("user" in subject) return ["user", subject.tenant ?? null, subject.user];
  return ["tenant", subject.tenant];
}
