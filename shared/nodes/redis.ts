import type { RedisConnections } from "../redis/connections.ts";
import { defineScript } from "../redis/scripts.ts";
import {
  type FleetNode,
  type NodeRegistry,
  type NodeReport,
  reportLastsMs,
  type ReportAnswer,
  type ShareRequest,
} from "./contract.ts";
import { budgetParts, fromUnits, toUnits } from "./shares.ts";
import { formatReport, parseReport } from "./stored-report.ts";

interface RegistryKeys {
  heard: string;
  reports: string;
  shares: string;
  drainOrders: string;
  fleet: string;
}

/** In one place: one script sees and changes all of them. @param root what all names of the deployment begin with. */
function registryKeys(root: string): RegistryKeys {
  const tag = `${root}:{nodes}`;
  return {
    heard: `${tag}:heard`,
    reports: `${tag}:reports`,
    shares: `${tag}:shares`,
    drainOrders: `${tag}:drain-orders`,
    fleet: `${tag}:fleet`,
  };
}

/** Nodes that run report more often: without any for so long nobody could ask Redis. */
const silentMs = 3_000;
/**
 * A view of the fleet may be so old for each node in it, but for changes of who there is and in which state: those are
 * told with the next report. About 300 bytes a node: with 40 nodes each hears of all others once a second, with 200 every
 * 5 s, 12 KB a second each and 2.4 MB a second for Redis, at 0.1 ms of its CPU for each report.
 */
const viewMsPerNode = 25;
/** Weights are counted in thousandths, like shares. */
const unitsPerWeight = 1_000;

interface View {
  version: string;
  readAt: string;
  nodes: readonly FleetNode[];
}

type Pairs = readonly string[];
type ReportReply = [share: string, drainOrdered: 0 | 1, now: string, version: string, reports?: Pairs, shares?: Pairs];

/** The nodes of a fleet. The clock is that of Redis. */
export class RedisNodeRegistry implements NodeRegistry {
  readonly #connections: RedisConnections;
  readonly #keys: RegistryKeys;
  /** By the instance that reports here. */
  readonly #views = new Map<string, View>();

  /** The caller starts and stops the connections. */
  constructor(connections: RedisConnections) {
    this.#connections = connections;
    this.#keys = registryKeys(connections.root);
    const define = (name: string, file: string, numberOfKeys: number): void => {
      defineScript(connections.commands, name, new URL(file, import.meta.url), numberOfKeys);
    };
    define("tidegateReportNode", "report.lua", 5);
    define("tidegateNodeLeaves", "leave.lua", 5);
    define("tidegateReadNodes", "read-nodes.lua", 2);
    define("tidegateOrderDrain", "order-drain.lua", 3);
  }

  async start(): Promise<void> {}
  async stop(): Promise<void> {}

  /** In the order in which report.lua and leave.lua take them. */
  get #allKeys(): string[] {
    const { heard, reports, shares, drainOrders, fleet } = this.#keys;
    return [heard, reports, shares, drainOrders, fleet];
  }

  async report(report: NodeReport, { budgetPerSecond, heldPerSecond }: ShareRequest): Promise<ReportAnswer> {
    const { instance, state, admissionWeight } = report;
    const budget = budgetParts(budgetPerSecond);
    const view = this.#views.get(instance);
    const [share, drainOrdered, now, version, reports, shares] = await this.#connections.run<ReportReply>(
      "tidegateReportNode",
      ...this.#allKeys,
      ...[instance, formatReport(report), state, Math.round(admissionWeight * unitsPerWeight)],
      heldPerSecond === undefined ? "" : toUnits(heldPerSecond),
      ...[budget.shared, budget.most, budget.blind, reportLastsMs, silentMs],
      ...[view?.version ?? "", view?.readAt ?? 0, viewMsPerNode],
    );
    const sharePerSecond = fromUnits(Number(share));
    if (reports && shares) this.#views.set(instance, { version, readAt: now, nodes: nodesOf(now, reports, shares) });
    const others = this.#views.get(instance)?.nodes.filter((node) => node.instance !== instance) ?? [];
    const nodes = [...others, { ...report, sharePerSecond }].sort(byName);
    return { sharePerSecond, drainOrdered: drainOrdered === 1, nodes };
  }

  async leave(instance: string): Promise<void> {
    this.#views.delete(instance);
    await this.#connections.run("tidegateNodeLeaves", ...this.#allKeys, instance);
  }

  async nodes(): Promise<readonly FleetNode[]> {
    const [now, reports, shares] = await this.#connections.run<[string, Pairs, Pairs]>(
      "tidegateReadNodes",
      this.#keys.reports,
      this.#keys.shares,
    );
    return nodesOf(now, reports, shares);
  }

  async orderDrain(node: string): Promise<number> {
    const { reports, heard, drainOrders } = this.#keys;
    return this.#connections.run<number>("tidegateOrderDrain", reports, heard, drainOrders, node, reportLastsMs);
  }
}

/** @param reports, shares instance and value in turn. */
function nodesOf(now: string, reports: Pairs, shares: Pairs): readonly FleetNode[] {
  const shareOf = new Map<string, string>();
  for (let at = 0; at < shares.length; at += 2) shareOf.set(shares[at] ?? "", shares[at + 1] ?? "");
  const nodes: FleetNode[] = [];
  for (let at = 0; at < reports.length; at += 2) {
    const [instance = "", text = ""] = reports.slice(at, at + 2);
    const [, share, , heard] = (shareOf.get(instance) ?? "").split(" ");
    const report = parseReport(instance, text);
    if (!report || Number(heard) <= Number(now) - reportLastsMs) continue;
    nodes.push({ ...report, sharePerSecond: fromUnits(Number(share)) });
  }
  return nodes.sort(byName);
}

function byName(one: FleetNode, other: FleetNode): number {
  return one.node.localeCompare(other.node) || one.instance.localeCompare(other.instance);
}
