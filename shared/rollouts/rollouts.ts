/** The rollouts in force, indexed for lookups. */
import type { RolloutGroup, StoredRollouts } from "./document.ts";
import { pointOf, type Subject } from "./point.ts";
import { unassigned, ownersOf } from "./shares.ts";

const salt = "group";

export class Rollouts {
  /** 0: no rollouts are stored yet. */
  readonly version: number;
  readonly stored: StoredRollouts;
  readonly #owners: Int16Array;
  readonly #listed: ReadonlyMap<string, RolloutGroup>;

  /** @param stored a valid document (`checkStoredRollouts`). */
  constructor(version: number, stored: StoredRollouts) {
    this.version = version;
    this.stored = stored;
    const { groups, shares } = stored;
    this.#owners = ownersOf(groups.map(({ name }) => shares[name] ?? [])) ?? new Int16Array();
    this.#listed = new Map(groups.flatMap((group) => (group.users ?? []).map((user) => [user, group] as const)));
  }

  /** @param subject undefined for an unknown caller. */
  groupOf(subject: Subject | undefined): RolloutGroup {
    const { groups, fallback } = this.stored;
    if (!subject || groups.length === 0) return fallback;
    const listed = "user" in subject ? this.#listed.get(subject.user) : undefined;
    return listed ?? groups[this.#owners[pointOf(salt, subject)] ?? unassigned] ?? fallback;
  }
}

/** One group for everyone, until rollouts are stored. */
export const noRollouts = new Rollouts(0, { groups: [], fallback: { name: "default" }, shares: {} });
