/** The format of a report in Redis. Compact, because every node keeps reading all reports. */
import { type Static, Type } from "typebox";
import { Compile } from "typebox/compile";
import { dimensionNames, type Dimensions } from "../load/dimensions.ts";
import { thousandths } from "./load-answer.ts";
import { parseJson } from "../json/json.ts";
import { DrainReport, type NodeReport } from "./contract.ts";

const count = Type.Number({ minimum: 0 });

/** The name comes first: order.lua relies on that. */
const StoredReport = Type.Tuple([
  Type.String(),
  Type.Enum(["ready", "draining"]),
  count,
  Type.Union([Type.String(), Type.Null()]),
  count,
  count,
  count,
  Type.Array(count, { minItems: dimensionNames.length, maxItems: dimensionNames.length }),
  count,
  count,
  Type.Union([DrainReport, Type.Null()]),
]);
const validator = Compile(StoredReport);

export function formatReport(report: NodeReport): string {
  return JSON.stringify([
    report.node,
    report.state,
    report.startedAt,
    report.url ?? null,
    report.connections,
    report.maxConnections,
    thousandths(report.factor),
    dimensionNames.map((name) => thousandths(report.dimensions[name])),
    thousandths(report.idleMemory),
    thousandths(report.admissionWeight),
    report.drain ?? null,
  ] satisfies Static<typeof StoredReport>);
}

/** @returns undefined for a report in the format of another version. */
export function parseReport(instance: string, text: string): NodeReport | undefined {
  const value = parseJson(text);
  if (!validator.Check(value)) return undefined;
  const [node, state, startedAt, url, connections, maxConnections, factor, used, idleMemory, admissionWeight, drain] =
    value;
  return {
    node,
    instance,
    state,
    startedAt,
    ...(url !== null && { url }),
    connections,
    maxConnections,
    factor,
    dimensions: Object.fromEntries(dimensionNames.map((name, at) => [name, used[at] ?? 0])) as Dimensions,
    idleMemory,
    admissionWeight,
    ...(drain !== null && { drain }),
  };
}
