import type { Cells } from "../redis/cells.ts";
import { script } from "../redis/scripts.ts";
import * as contract from "./contract.ts";
import { type RegistryKeys, registryKeys } from "./keys.ts";
import { budgetParts, fromUnits, toUnits } from "./shares.ts";
import { formatReport, parseReport } from "./stored-report.ts";

/** Nodes report more often than this: a longer silence means that Redis was out of reach. */
const silentMs = 3_000;
/**
 * Longest age of a node's view of the fleet, per node in it. Joins, losses and changes of state reach every node with its next
 * report anyway. A view has about 300 bytes per node: with 40 nodes each node reads it once a second; with 200 every 5 s, which
 * is 12 KB a second per node and 2.4 MB a second for Redis, at 0.1 ms of its CPU per report.
 */
const viewMsPerNode = 25;
/** Redis stores weights in thousandths, like shares. */
const unitsPerWeight = 1_000;

interface View {
  version: string;
  readAt: string;
  nodes: readonly contract.FleetNode[];
}

type Pairs = readonly string[];
type NodesReply = [now: string, reports: Pairs, shares: Pairs];
type ReportReply = [share: string, order: 0 | 1 | 2, now: string, version: string, reports?: Pairs, shares?: Pairs];
/** By the number in a {@link ReportReply}. */
const orders = [undefined, "drain", "undrain"] as const;

const reportScript = script<ReportReply>(new URL("report.lua", import.meta.url), 5);
const leaveScript = script(new URL("leave.lua", import.meta.url), 5);
const readNodesScript = script<NodesReply>(new URL("read-nodes.lua", import.meta.url), 2);
const orderScript = script<number>(new URL("order.lua", import.meta.url), 3);

/** The nodes of a fleet, by the clock of Redis. */
export class RedisNodeRegistry implements contract.NodeRegistry {
  readonly #cells: Cells;
  readonly #keys: RegistryKeys;
  /** By instance that reports through this registry. */
  readonly #views = new Map<string, View>();

  constructor(cells: Cells) {
    this.#cells = cells;
    this.#keys = registryKeys(cells.fleet.root);
  }

  /** In the order of KEYS in report.lua and leave.lua. */
  get #allKeys(): string[] {
    const { heard, reports, shares, orders, fleet } = this.#keys;
    return [heard, reports, shares, orders, fleet];
  }

  async report(
    report: contract.NodeReport,
    { budgetPerSecond, heldPerSecond }: contract.ShareRequest,
  ): Promise<contract.ReportAnswer> {
    const { instance, state, admissionWeight } = report;
    const budget = budgetParts(budgetPerSecond);
    const view = this.#views.get(instance);
    const [share, order, now, version, reports, shares] = await this.#cells.fleet.run(
      reportScript,
      ...this.#allKeys,
      ...[instance, formatReport(report), state, Math.round(admissionWeight * unitsPerWeight)],
      heldPerSecond === undefined ? "" : toUnits(heldPerSecond),
      ...[budget.shared, budget.most, budget.blind, contract.reportLastsMs, silentMs],
      ...[view?.version ?? "", view?.readAt ?? 0, viewMsPerNode],
    );
    const sharePerSecond = fromUnits(Number(share));
    if (reports && shares) this.#views.set(instance, { version, readAt: now, nodes: nodesOf(now, reports, shares) });
    const others = this.#views.get(instance)?.nodes.filter((node) => node.instance !== instance) ?? [];
    const nodes = [...others, { ...report, sharePerSecond }].sort(byName);
    return { sharePerSecond, order: orders[order], nodes };
  }

  async leave(instance: string): Promise<void> {
    this.#views.delete(instance);
    await this.#cells.fleet.run(leaveScript, ...this.#allKeys, instance);
  }

  async nodes(): Promise<readonly contract.FleetNode[]> {
    const { reports: reportsKey, shares: sharesKey } = this.#keys;
    const [now, reports, shares] = await this.#cells.fleet.run(readNodesScript, reportsKey, sharesKey);
    return nodesOf(now, reports, shares);
  }

  async order(node: string, order: contract.NodeOrder): Promise<number> {
    const { reports, heard, orders } = this.#keys;
    return this.#cells.fleet.run(orderScript, reports, heard, orders, node, contract.reportLastsMs, order);
  }
}

/** @param reports, shares instances and values, alternating. */
function nodesOf(now: string, reports: Pairs, shares: Pairs): readonly contract.FleetNode[] {
  const shareOf = new Map<string, string>();
  for (let at = 0; at < shares.length; at += 2) shareOf.set(shares[at] ?? "", shares[at + 1] ?? "");
  const nodes: contract.FleetNode[] = [];
  for (let at = 0; at < reports.length; at += 2) {
    const [instance = "", text = ""] = reports.slice(at, at + 2);
    const [, share, , heard] = (shareOf.get(instance) ?? "").split(" ");
    const report = parseReport(instance, text);
    if (!report || Number(heard) <= Number(now) - contract.reportLastsMs) continue;
    nodes.push({ ...report, sharePerSecond: fromUnits(Number(share)) });
  }
  return nodes.sort(byName);
}

function byName(one: contract.FleetNode, other: contract.FleetNode): number {
  return one.node.localeCompare(other.node) || one.instance.localeCompare(other.instance);
}
