import { type IdentityKey, identityKey, type UserIdentity } from "../protocol/identity-key.ts";
import type { JoinLeave, PresenceMember } from "../protocol/wire.ts";

/** A session in a channel, as shown to others. */
export type Member = JoinLeave;

export function memberOf({ user, tenant }: UserIdentity, channel: string, info: unknown): Member {
  return { channel, user, ...(tenant !== undefined && { tenant }), info };
}

/** Lists a user with several sessions once. */
export function membersByUser(members: readonly Member[]): PresenceMember[] {
  const byUser = new Map<IdentityKey, PresenceMember>();
  for (const { user, tenant, info } of members) {
    const key = identityKey({ user, tenant });
    const member = byUser.get(key) ?? { user, ...(tenant !== undefined && { tenant }), connections: 0 };
    member.connections++;
    if (info !== undefined) member.info = info;
    byUser.set(key, member);
  }
  return [...byUser.values()];
}
