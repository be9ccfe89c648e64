/** Which user is in which group while percentages change. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { checkRollouts, type StoredRollouts, withShares } from "../../shared/rollouts/document.ts";
import { pointCount, pointOf } from "../../shared/rollouts/point.ts";
import { Rollouts } from "../../shared/rollouts/rollouts.ts";
import { unassigned, ownersOf } from "../../shared/rollouts/shares.ts";

const fallback = { name: "stable" };
const users = Array.from({ length: 10_000 }, (_, i) => ({ user: `user-${i}`, tenant: undefined }));

function put(percents: Record<string, number>, before?: StoredRollouts): StoredRollouts {
  const groups = Object.entries(percents).map(([name, percent]) => ({ name, percent }));
  return withShares(checkRollouts({ groups, fallback }), before);
}

/** The name of each point's group. */
function groupsOf({ groups, shares }: StoredRollouts): string[] {
  const owners = ownersOf(groups.map(({ name }) => shares[name] ?? []));
  if (!owners) throw new Error("a point has two owners");
  return [...owners].map((owner) => (owner === unassigned ? fallback.name : (groups[owner]?.name ?? "")));
}

function countOf(rollouts: StoredRollouts, among = users): Record<string, number> {
  const current = new Rollouts(1, rollouts);
  const counts: Record<string, number> = {};
  for (const user of among) {
    const { name } = current.groupOf(user);
    counts[name] = (counts[name] ?? 0) + 1;
  }
  return counts;
}

/** Hundredths of a percent of up to five groups, at most 100 % together; a group may be missing. */
const divisions = fc
  .array(fc.option(fc.nat(pointCount), { nil: undefined, freq: 6 }), { minLength: 5, maxLength: 5 })
  .map((wanted) => {
    let free = pointCount;
    const percents: Record<string, number> = {};
    for (const [index, points] of wanted.entries()) {
      if (points === undefined) continue;
      const given = Math.min(points, free);
      free -= given;
      percents[`group-${index}`] = given / 100;
    }
    return percents;
  });

describe("the points of the groups", () => {
  test("ROLL-3: as few users as possible change group, and only because a group changes size", () => {
    fc.assert(
      fc.property(fc.array(divisions, { minLength: 2, maxLength: 6 }), (steps) => {
        let before: StoredRollouts | undefined;
        for (const percents of steps) {
          const after = put(percents, before);
          const now = groupsOf(after);
          for (const [name, percent] of Object.entries(percents)) {
            expect(now.filter((group) => group === name)).toHaveLength(Math.round(percent * 100));
          }
          if (before) expectFewestMoves(before, after);
          before = after;
        }
      }),
      { numRuns: 60 },
    );
  });

  /** No user leaves a group that does not shrink, or joins one that does not grow. */
  function expectFewestMoves(before: StoredRollouts, after: StoredRollouts): void {
    const [was, is] = [groupsOf(before), groupsOf(after)];
    const sizeOf = (groups: string[], name: string): number => groups.filter((group) => group === name).length;
    const names = [...new Set([...was, ...is])].filter((name) => name !== fallback.name);
    const growth = new Map(names.map((name) => [name, sizeOf(is, name) - sizeOf(was, name)]));
    for (const [name, grown] of growth) {
      const left = was.filter((group, point) => group === name && is[point] !== name).length;
      const came = is.filter((group, point) => group === name && was[point] !== name).length;
      expect([name, left, came]).toEqual([name, Math.max(0, -grown), Math.max(0, grown)]);
    }
  }

  test("ROLL-3: from 10 to 20 % only users of the fallback move, and the same ones return", () => {
    const ten = put({ early: 5, canary: 10, late: 25 });
    const twenty = put({ early: 5, canary: 20, late: 25 }, ten);
    const back = put({ early: 5, canary: 10, late: 25 }, twenty);
    const moves = new Set<string>();
    const [first, second] = [new Rollouts(1, ten), new Rollouts(2, twenty)];
    for (const user of users) {
      const [from, to] = [first.groupOf(user).name, second.groupOf(user).name];
      if (from !== to) moves.add(`${from} → ${to}`);
    }
    expect([...moves]).toEqual(["stable → canary"]);
    expect(groupsOf(back)).toEqual(groupsOf(ten));
  });

  test("ROLL-3: stored shares that no longer fit together are divided from scratch", () => {
    const broken = { ...put({ one: 50, two: 50 }), shares: { one: [[0, 6_000]], two: [[4_000, 9_000]] } } as const;
    expect(put({ one: 50, two: 50 }, broken as unknown as StoredRollouts)).toEqual(put({ one: 50, two: 50 }));
  });
});

test("ROLL-2: a user has the same point everywhere: 10,000 users give these shares", () => {
  expect(pointOf("group", { user: "ada", tenant: undefined })).toBe(584);
  // Three standard deviations of a share of 10 % are 90 users.
  expect(countOf(put({ canary: 10 }))).toEqual({ canary: 1_008, stable: 8_992 });
  expect(countOf(put({ small: 0.5, half: 50 }))).toEqual({ small: 57, half: 5_016, stable: 4_927 });
});

test("ROLL-2: the same name in another tenant, or without a user, has another point", () => {
  const points = [
    { user: "ada", tenant: undefined },
    { user: "ada", tenant: "acme" },
    { user: "ada", tenant: "other" },
    { client: "ada" },
    { tenant: "ada" },
  ].map((subject) => pointOf("group", subject));
  expect(new Set(points).size).toBe(points.length);
});
