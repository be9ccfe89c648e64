/** Maps users, clients and tenants to fixed points of a rollout. */
import { createHash } from "node:crypto";

/** A point is a hundredth of a percent. */
export const pointCount = 10_000;
export const pointsPerPercent = pointCount / 100;

/** Whether the percentage is a whole number of points: others would be rounded silently. */
export function isRepresentable(percent: number): boolean {
  const points = percent * pointsPerPercent;
  return Math.abs(points - Math.round(points)) < 1e-6;
}

/** A user is identified within its tenant. A client without a user has an id of its own. */
export type Subject = { user: string; tenant: string | undefined } | { client: string } | { tenant: string };

/**
 * A point from 0 to 9,999, uniformly distributed: the first 48 bits of SHA-256, modulo 10,000. Never changes for a subject.
 * @param salt of the rollout: another salt distributes the same subjects differently.
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
