import fc from "fast-check";
import { expect, test } from "vitest";
import { RebalanceQuota } from "../../gateway/moving/rebalance-quota.ts";

interface Node {
  instance: string;
  state: "ready" | "draining";
  connections: number;
  maxConnections: number;
  factor: number;
  quota: RebalanceQuota;
  asked: number;
}

function fleetOf(nodes: readonly { connections: number; maxConnections: number; factor?: number }[]): Node[] {
  return nodes.map(({ connections, maxConnections, factor = 0.5 }, at) => ({
    instance: `node-${at}`,
    state: "ready",
    connections,
    maxConnections,
    factor,
    quota: new RebalanceQuota(),
    asked: 0,
  }));
}

function decide(nodes: readonly Node[], node: Node, leaving = 0, gone = 0): number {
  const { instance } = node;
  return node.quota.next({ nodes, instance, leaving, gone, budgetPerSecond: 1_000, elapsedMs: 1_000 });
}

/** One second: all nodes decide from the same view, then the asked sessions move. @returns how many were asked. */
function second(nodes: readonly Node[], land: (giver: Node) => Node): number {
  const quotas = nodes.map((node) => decide(nodes, node));
  for (const [at, node] of nodes.entries()) {
    for (let i = 0; i < (quotas[at] ?? 0); i++) {
      node.connections--;
      land(node).connections++;
    }
  }
  return quotas.reduce((sum, quota) => sum + quota, 0);
}

function mean(nodes: readonly Node[]): number {
  return sum(nodes, "connections") / sum(nodes, "maxConnections");
}

function sum(nodes: readonly Node[], what: "connections" | "maxConnections"): number {
  return nodes.reduce((total, node) => total + node[what], 0);
}

const sizes = fc.array(
  fc.integer({ min: 500, max: 20_000 }).chain((maxConnections) =>
    fc.record({
      maxConnections: fc.constant(maxConnections),
      connections: fc.integer({ min: 0, max: maxConnections }),
    }),
  ),
  { minLength: 1, maxLength: 8 },
);

test("REB-1: sessions move from full to empty nodes at a bounded rate, never below a node's part", () => {
  fc.assert(
    fc.property(sizes, (given) => {
      const nodes = fleetOf(given);
      const total = sum(nodes, "connections");
      const emptiest = (): Node =>
        nodes.toSorted((a, b) => a.connections / a.maxConnections - b.connections / b.maxConnections)[0] as Node;
      let quiet = 0;
      for (let s = 0; quiet < 5; s++) {
        expect(s).toBeLessThan(10_000);
        const before = nodes.map(({ connections }) => connections);
        const asked = second(nodes, emptiest);
        expect(asked).toBeLessThanOrEqual(100 + nodes.length);
        quiet = asked === 0 ? quiet + 1 : 0;
        for (const [at, node] of nodes.entries()) {
          const part = mean(nodes) * node.maxConnections;
          // Below its part only if it was there before.
          expect(node.connections).toBeGreaterThanOrEqual(Math.floor(Math.min(part, before[at] ?? 0)));
        }
      }
      expect(sum(nodes, "connections")).toBe(total);
      for (const { connections, maxConnections } of nodes) {
        const part = mean(nodes) * maxConnections;
        expect(connections - part).toBeLessThanOrEqual(Math.max(0.05 * maxConnections, 0.1 * part));
      }
    }),
    { numRuns: 50 },
  );
});

test("REB-1: a node stays at its part with a view of the fleet that is one or two seconds old", () => {
  fc.assert(
    fc.property(sizes, fc.integer({ min: 1, max: 2 }), (given, ageSeconds) => {
      const nodes = fleetOf(given);
      const seen: number[][] = [];
      const left = nodes.map((): number[] => []);
      for (let s = 0; s < 200; s++) {
        const counts = nodes.map(({ connections }) => connections);
        seen.push(counts);
        const old = seen[Math.max(0, s - ageSeconds)] ?? counts;
        const quotas = nodes.map((node, at) => {
          const view = nodes.map((other, i) => ({ ...other, connections: (i === at ? counts : old)[i] ?? 0 }));
          const gone = (left[at] ?? []).slice(-2).reduce((total, count) => total + count, 0);
          return decide(view, node, 0, gone);
        });
        for (const [at, node] of nodes.entries()) {
          const quota = quotas[at] ?? 0;
          left[at]?.push(quota);
          node.connections -= quota;
          if (quota === 0) continue;
          expect(node.connections).toBeGreaterThanOrEqual(
            Math.floor(((sum(nodes, "connections") + quota) / sum(nodes, "maxConnections")) * node.maxConnections) - 1,
          );
          const [emptiest] = nodes.toSorted(
            (a, b) => a.connections / a.maxConnections - b.connections / b.maxConnections,
          );
          if (emptiest) emptiest.connections += quota;
        }
      }
    }),
    { numRuns: 50 },
  );
});

test("REB-1: rebalancing stops also when the balancer returns sessions to any node", () => {
  fc.assert(
    fc.property(sizes, fc.infiniteStream(fc.nat({ max: 1_000_000 })), (given, numbers) => {
      const nodes = fleetOf(given.map(({ connections }) => ({ connections, maxConnections: 10_000 })));
      const anywhere = (): Node => nodes[Number(numbers.next().value) % nodes.length] as Node;
      let quiet = 0;
      for (let s = 0; quiet < 5; s++) {
        expect(s).toBeLessThan(10_000);
        quiet = second(nodes, anywhere) === 0 ? quiet + 1 : 0;
      }
    }),
    { numRuns: 20 },
  );
});

test("REB-2: no session moves for a small difference, in a fleet of one, to full nodes, or in a drain", () => {
  const cap = { maxConnections: 10_000 };
  const asked = (nodes: readonly Node[]): number => second(nodes, (node) => node);
  expect(asked(fleetOf([{ ...cap, connections: 9_000 }]))).toBe(0);
  expect(
    asked(
      fleetOf([
        { ...cap, connections: 900 },
        { ...cap, connections: 100 },
      ]),
    ),
  ).toBe(0);
  expect(
    asked(
      fleetOf([
        { ...cap, connections: 8_400 },
        { ...cap, connections: 7_600 },
      ]),
    ),
  ).toBe(0);
  const uneven = [
    { ...cap, connections: 8_000 },
    { ...cap, connections: 0 },
  ];
  expect(asked(fleetOf(uneven))).toBe(100);
  expect(asked(fleetOf(uneven.map((node) => ({ ...node, factor: 0.95 }))))).toBe(0);
  const draining = fleetOf(uneven);
  if (draining[0]) draining[0].state = "draining";
  expect(asked(draining)).toBe(0);
});

test("REB-2: sessions that were asked and are still here count as gone", () => {
  const nodes = fleetOf([
    { connections: 8_000, maxConnections: 10_000 },
    { connections: 0, maxConnections: 10_000 },
  ]);
  const [giver] = nodes as [Node, Node];
  expect(decide(nodes, giver, 3_000)).toBe(100);
  expect(decide(nodes, giver, 3_970)).toBe(0);
  expect(decide(nodes, giver, 4_500)).toBe(0);
  // The others have not reported them yet: they are there all the same.
  giver.connections = 4_100;
  expect(decide(nodes, giver, 0, 3_900)).toBe(0);
  expect(decide(nodes, giver, 0, 0)).toBe(100);
});
