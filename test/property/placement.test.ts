/** Which node each client of a crowd is sent to. */
import fc from "fast-check";
import { expect, test } from "vitest";
import { Placement } from "../../gateway/bootstrap/placement.ts";
import type { FleetNode } from "../../shared/nodes/contract.ts";
import { nodeReport } from "../support/node-reports.ts";
import { SeededRandom } from "../support/seeded-random.ts";

function placementOf(seed: number): Placement {
  return new Placement(new SeededRandom(String(seed)).next);
}

function nodeOf(
  instance: string,
  { hasAddress = true, ...own }: Partial<FleetNode> & { hasAddress?: boolean } = {},
): FleetNode {
  return {
    ...nodeReport({ node: instance, instance, maxConnections: 1_000_000, ...own }),
    ...(hasAddress && own.url === undefined && { url: `https://${instance}.example` }),
    sharePerSecond: own.sharePerSecond ?? 100,
  };
}

const fleets = fc.array(
  fc.record({
    state: fc.constantFrom("ready" as const, "ready" as const, "ready" as const, "draining" as const),
    connections: fc.nat(60),
    maxConnections: fc.constantFrom(40, 60, 1_000),
    factor: fc.double({ min: 0, max: 1.2, noNaN: true }),
    sharePerSecond: fc.nat(50),
    hasAddress: fc.integer({ min: 0, max: 7 }).map((one) => one > 0),
  }),
  { maxLength: 12 },
);

test("BOOT-3: a client is sent to a ready node with a free seat, and refused only without one", () => {
  fc.assert(
    fc.property(fleets, fc.integer(), fc.nat(3_000), (given, seed, crowd) => {
      const nodes = given.map((own, index) => nodeOf(`node-${index}`, own));
      const placement = placementOf(seed);
      placement.update(nodes);
      const sent = new Map<string, number>();
      let refused = 0;
      for (let i = 0; i < crowd; i++) {
        const node = placement.choose();
        if (node) sent.set(node.instance, (sent.get(node.instance) ?? 0) + 1);
        else refused++;
      }
      const free = (node: FleetNode): number =>
        node.state === "ready" ? Math.max(0, node.maxConnections - node.connections) : 0;
      for (const node of nodes) expect(sent.get(node.instance) ?? 0).toBeLessThanOrEqual(free(node));
      const offered = nodes.some((node) => node.url !== undefined && free(node) > 0)
        ? nodes.filter((node) => node.url !== undefined)
        : nodes;
      const seats = offered.reduce((sum, node) => sum + free(node), 0);
      expect(refused).toBe(Math.max(0, crowd - seats));
    }),
  );
});

test("BOOT-3: a crowd between two reports is spread, although one node is the lightest", () => {
  fc.assert(
    fc.property(
      fc.integer(),
      fc.integer({ min: 4, max: 40 }),
      // Of a smaller crowd chance alone may send the lightest node less than another one.
      fc.integer({ min: 50, max: 200 }),
      (seed, n, fair) => {
        const crowd = fair * n;
        const nodes = Array.from({ length: n }, (_, index) =>
          nodeOf(`node-${index}`, { factor: index === 0 ? 0.1 : 0.8 }),
        );
        const placement = placementOf(seed);
        placement.update(nodes);
        const sent = new Map<string, number>();
        for (let i = 0; i < crowd; i++) {
          const { instance = "" } = placement.choose() ?? {};
          sent.set(instance, (sent.get(instance) ?? 0) + 1);
        }
        // Drawn in pairs: at most 2/n of all, apart from chance.
        for (const count of sent.values()) expect(count).toBeLessThanOrEqual(2 * fair + 5 * Math.sqrt(2 * fair));
        const lightest = sent.get("node-0") ?? 0;
        expect(lightest).toBeGreaterThanOrEqual(Math.max(...[...sent.values()]) * 0.8);
      },
    ),
  );
});

test("BOOT-3: equal nodes share a crowd far more evenly than by chance", () => {
  fc.assert(
    fc.property(fc.integer(), fc.integer({ min: 2, max: 40 }), (seed, n) => {
      const placement = placementOf(seed);
      placement.update(Array.from({ length: n }, (_, index) => nodeOf(`node-${index}`)));
      const sent = new Map<string, number>();
      for (let i = 0; i < 200 * n; i++) {
        const { instance = "" } = placement.choose() ?? {};
        sent.set(instance, (sent.get(instance) ?? 0) + 1);
      }
      expect(Math.max(...sent.values()) - Math.min(...sent.values())).toBeLessThanOrEqual(20);
    }),
  );
});

test("BOOT-3: clients sent since the last reports count until the reports after the next", () => {
  const placement = placementOf(1);
  const [full, other] = [nodeOf("one", { maxConnections: 3 }), nodeOf("two", { maxConnections: 2 })];
  const seats = (): string[] => {
    const found: string[] = [];
    for (let node = placement.choose(); node; node = placement.choose()) found.push(node.instance);
    return found.sort();
  };
  placement.update([full, other]);
  expect(seats()).toEqual(["one", "one", "one", "two", "two"]);
  placement.update([full, other]);
  expect(seats()).toEqual([]);
  placement.update([{ ...full, connections: 1 }, other]);
  expect(seats()).toEqual(["one", "one", "two", "two"]);
});

test("BOOT-3: knowledge beyond a node's report counts", () => {
  const placement = placementOf(2);
  placement.update([nodeOf("one"), nodeOf("two")]);
  for (let i = 0; i < 100; i++) expect(placement.choose((node) => node.instance !== "one")?.instance).toBe("two");
});
