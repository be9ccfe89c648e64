/** The rollouts in force, ready for look-ups. */
import type { RolloutGroup, StoredRollouts } from "./document.ts";
import { pointOf, type Subject } from "./point.ts";
import { nobody, ownersOf } from "./shares.ts";

const salt = "group";

export class Rollouts {
  /** 0: none are stored yet. */
  readonly version: number;
  readonly stored: StoredRollouts;
  readonly #owners: Int16Array;
  readonly #listed: ReadonlyMap<string, RolloutGroup>;

  /** @param stored has passed checkStoredRollouts. */
  constructor(version: number, stored: StoredRollouts) {
    this.version = version;
    this.stored = stored;
    const { groups, shares } = stored;
    this.#owners = ownersOf(groups.map(({ name }) => shares[name] ?? [])) ?? new Int16Array();
    this.#listed = new Map(groups.flatMap((group) => (group.users ?? []).map((user) => [user, group] as const)));
  }

  /** @param subject undefined: nobody knows who it is. */
  groupOf(subject: Subject | undefined): RolloutGroup {
    const { groups, fallback } = this.stored;
    if (!subject || groups.length === 0) return fallback;
    const listed = "user" in subject ? this.#listed.get(subject.user) : undefined;
    return listed ?? groups[this.#owners[pointOf(salt, subject)] ?? nobody] ?? fallback;
  }
}

/** Everybody is in one group until rollouts are put. */
export const noRollouts = new Rollouts(0, { groups: [], fallback: { name: "default" }, shares: {} });
