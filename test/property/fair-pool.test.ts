import fc from "fast-check";
import { expect, test } from "vitest";
import { FairPool } from "../../shared/runtime/fair-pool.ts";

const step = fc.oneof(
  { weight: 3, arbitrary: fc.record({ kind: fc.constant("add" as const), member: fc.nat(30), owner: fc.nat(4) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("delete" as const), member: fc.nat(30) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("evict" as const) }) },
);

test("DOOR-3: a full pool evicts the oldest member of the owner with the most", () => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 200 }), (steps) => {
      const pool = new FairPool<number>();
      /** Oldest first. */
      let model: { member: number; owner: number }[] = [];
      const countOf = (owner: number): number => model.filter((entry) => entry.owner === owner).length;
      for (const taken of steps) {
        const { next } = pool;
        if (model.length === 0) expect(next).toBeUndefined();
        else {
          const most = Math.max(...model.map(({ owner }) => countOf(owner)));
          const given = model.find(({ member }) => member === next);
          expect(given && countOf(given.owner)).toBe(most);
          expect(model.find(({ owner }) => owner === given?.owner)?.member).toBe(next);
        }
        const member = taken.kind === "evict" ? next : taken.member;
        model = model.filter((entry) => entry.member !== member);
        if (taken.kind === "add") {
          model.push(taken);
          pool.add(taken.member, String(taken.owner));
        } else if (member !== undefined) pool.delete(member);
        expect(pool.size).toBe(model.length);
      }
    }),
  );
});

test("DOOR-3: a new member stays as long as its owner has fewer than others", () => {
  const pool = new FairPool<string>();
  for (let i = 0; i < 100; i++) pool.add(`greedy ${i}`, "greedy");
  pool.add("modest", "modest");
  for (let i = 0; i < 99; i++) {
    expect(pool.next).toBe(`greedy ${i}`);
    pool.delete(pool.next ?? "");
  }
});
