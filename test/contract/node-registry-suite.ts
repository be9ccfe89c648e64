/** The suite of every NodeRegistry. */
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import type { Service } from "../../shared/runtime/lifecycle.ts";
import type { NodeRegistry, NodeReport, ReportAnswer } from "../../shared/nodes/contract.ts";
import { dimensionsOf, nodeReport } from "../support/node-reports.ts";

/** Two clients of one empty registry, like two processes. */
export interface RegistryUnderTest extends Service {
  registries: readonly [NodeRegistry, NodeRegistry];
}

const budgetPerSecond = 1_000;

/** A node that holds its last assigned share. */
class Node {
  readonly registry: NodeRegistry;
  report: NodeReport;
  held = 0;

  constructor(registry: NodeRegistry, given: Partial<NodeReport>) {
    this.registry = registry;
    this.report = nodeReport(given);
  }

  async tell(change: Partial<NodeReport> = {}): Promise<ReportAnswer> {
    this.report = { ...this.report, ...change };
    const answer = await this.registry.report(this.report, { budgetPerSecond, heldPerSecond: this.held });
    this.held = answer.sharePerSecond;
    return answer;
  }
}

export function nodeRegistrySuite(name: string, open: () => Promise<RegistryUnderTest>): void {
  describe(`the registry of nodes in ${name}`, () => {
    let opened: RegistryUnderTest;
    let one: Node;
    let two: Node;

    beforeEach(async () => {
      opened = await open();
      await opened.start();
      const [here, there] = opened.registries;
      one = new Node(here, { node: "one" });
      two = new Node(there, { node: "two" });
    });
    afterEach(async () => {
      await opened.stop();
    });

    async function beats(count: number, ...nodes: Node[]): Promise<void> {
      for (let beat = 0; beat < count; beat++) for (const node of nodes) await node.tell();
    }

    test("NODE-1: every registry lists the reported nodes by name", async () => {
      const full = nodeReport({
        node: "two",
        url: "https://two.example",
        state: "draining",
        connections: 70,
        factor: 0.812,
        dimensions: dimensionsOf({ connections: 0.7, memory: 0.123, admissions: 2.5 }),
        idleMemory: 0.05,
        admissionWeight: 12.5,
        drain: { startedAt: 5, endedAt: 6, sessions: 70, moved: 40, closed: 20, forced: 3, lost: 4, left: 3 },
      });
      two.report = full;
      await two.tell();
      const { nodes } = await one.tell();
      expect(nodes.map(({ node }) => node)).toEqual(["one", "two"]);
      expect(nodes[1]).toEqual({ ...full, sharePerSecond: two.held });
      expect(await two.registry.nodes()).toEqual(nodes);
    });

    test("NODE-1: a node that leaves is gone at once; two nodes may share a name", async () => {
      await one.tell();
      await two.tell({ node: "one" });
      expect(await one.registry.nodes()).toHaveLength(2);
      await two.registry.leave(two.report.instance);
      expect((await one.tell()).nodes).toHaveLength(1);
      await two.registry.leave(two.report.instance);
      expect(await two.registry.nodes()).toHaveLength(1);
    });

    test("NODE-2: nine tenths of the budget are divided by weight once all nodes reported twice", async () => {
      await one.tell({ admissionWeight: 100 });
      expect(one.held).toBeCloseTo(900, 1);
      await two.tell({ admissionWeight: 50 });
      expect(two.held).toBeGreaterThan(0);
      expect(two.held).toBeLessThanOrEqual(50);
      await beats(2, one, two);
      expect(one.held).toBeCloseTo(600, 1);
      expect(two.held).toBeCloseTo(300, 1);
      await one.tell({ admissionWeight: 0 });
      expect(one.held).toBe(0);
      await beats(2, one, two);
      expect(two.held).toBeCloseTo(900, 1);
    });

    test("NODE-2: a share is in force until its node reports another one or leaves", async () => {
      await one.tell();
      const { held } = one;
      await two.tell();
      await one.tell();
      // The answer, a smaller share, did not arrive.
      one.held = held;
      for (let beat = 0; beat < 3; beat++) {
        await one.tell();
        one.held = held;
        await two.tell();
      }
      expect(two.held).toBeLessThanOrEqual(50);
      await one.registry.leave(one.report.instance);
      await two.tell();
      expect(two.held).toBeCloseTo(900, 1);
    });

    test("NODE-2: without weights no node has a share", async () => {
      await one.tell({ admissionWeight: 0 });
      expect(one.held).toBe(0);
    });

    test("NODE-4: an order to drain reaches every node of that name with its next report", async () => {
      await Promise.all([one.tell(), two.tell()]);
      const twin = new Node(two.registry, { node: "two" });
      await twin.tell();
      expect(await one.registry.order("two", "drain")).toBe(2);
      expect(await one.registry.order("three", "drain")).toBe(0);
      expect((await one.tell()).order).toBe(undefined);
      expect((await two.tell()).order).toBe("drain");
      expect((await twin.tell()).order).toBe("drain");
      expect(await one.registry.order("two", "undrain")).toBe(2);
      expect((await two.tell()).order).toBe("undrain");
      expect(await one.registry.order("two", "drain")).toBe(2);
      expect((await two.tell()).order).toBe("drain");
      // A restarted node has another instance.
      await two.registry.leave(two.report.instance);
      const next = new Node(two.registry, { node: "two" });
      expect((await next.tell()).order).toBe(undefined);
      // Orders to nodes that left are not kept.
      expect((await two.tell()).order).toBe(undefined);
    });
  });
}
