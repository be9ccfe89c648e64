import type { JoinLeave, PresenceMember } from "../protocol/wire.ts";

/** One session in a channel, as others see it. */
export type Member = JoinLeave;

/** A user who is there with several sessions is listed once. */
export function membersByUser(members: readonly Member[]): PresenceMember[] {
  const byUser = new Map<string, PresenceMember>();
  for (const { user, info } of members) {
    const member = byUser.get(user) ?? { user, connections: 0 };
    member.connections++;
    if (info !== undefined) member.info = info;
    byUser.set(user, member);
  }
  return [...byUser.values()];
}
