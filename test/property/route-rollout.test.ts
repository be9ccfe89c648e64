/** Which users a route's rollout sends to the other service. */
import { expect, test } from "vitest";
import { pointOf } from "../../shared/rollouts/point.ts";
import { serviceOf } from "../../shared/rules/route-target.ts";

const users = Array.from({ length: 10_000 }, (_, i) => ({ user: `user-${i}`, tenant: undefined }));

test("ROLL-6: rollouts to one service choose the same users, rollouts to another service others", () => {
  const route = (to: string, percent: number, by?: "user" | "tenant") => ({
    ...{ event: "a", service: "old", path: "/", mode: "call" as const },
    rollout: { to, percent, ...(by && { by }) },
  });
  const chosen = (to: string, percent: number): Set<string> =>
    new Set(users.filter((user) => serviceOf(route(to, percent), user) === to).map(({ user }) => user));
  const [ten, twenty, other] = [chosen("new", 10), chosen("new", 20), chosen("else", 10)];
  expect([ten.size, twenty.size, other.size]).toEqual([972, 1990, 1005]);
  expect([...ten].filter((user) => !twenty.has(user))).toEqual([]);
  expect([...ten].filter((user) => other.has(user))).toHaveLength(100);
  expect([chosen("new", 0).size, chosen("new", 100).size]).toEqual([0, users.length]);

  const tenants = new Map<string, Set<string>>();
  for (let i = 0; i < 1_000; i++) {
    const tenant = `tenant-${i % 50}`;
    const service = serviceOf(route("new", 50, "tenant"), { user: `user-${i}`, tenant });
    tenants.set(tenant, (tenants.get(tenant) ?? new Set()).add(service));
  }
  expect([...tenants.values()].every((services) => services.size === 1)).toBe(true);
  expect(new Set([...tenants.values()].flatMap((services) => [...services]))).toEqual(new Set(["old", "new"]));
});

test.each([0.07, 0.14, 1.1, 2.2, 33.3])("ROLL-6: %s percent are that many of the 10,000 points", (percent) => {
  const rollout = { to: "new", percent };
  const route = { event: "a", service: "old", path: "/", mode: "call" as const, rollout };
  const wanted = Math.round(percent * 100);
  const points = new Map(users.map(({ user }) => [pointOf("service new", { user, tenant: undefined }), user]));
  const moved = [...points].filter(([, user]) => serviceOf(route, { user }) === "new").map(([point]) => point);
  expect(moved.sort((one, other) => one - other)).toEqual(
    [...points.keys()].filter((point) => point < wanted).sort((one, other) => one - other),
  );
});
