/** The load of a node, as `/load` and `/v1/load` answer it. */
import { type Static, Type } from "typebox";
import type { NodeReport } from "./contract.ts";
import { dimensionNames, type Dimensions } from "../load/dimensions.ts";

const used = Type.Number({ minimum: 0, description: "used ÷ allowed: 1.0 is at target" });

export const NodeLoadAnswer = Type.Object(
  {
    node: Type.String(),
    state: Type.Enum(["ready", "draining"]),
    connections: Type.Integer({ minimum: 0 }),
    factor: used,
    dimensions: Type.Object(
      { connections: used, eventLoop: used, cpu: used, delay: used, memory: used, outbound: used, admissions: used },
      { additionalProperties: false },
    ),
  },
  { additionalProperties: false },
);
export type NodeLoadAnswer = Static<typeof NodeLoadAnswer>;

export function toLoadAnswer(report: NodeReport): NodeLoadAnswer {
  const { node, state, connections, factor, dimensions } = report;
  return {
    node,
    state,
    connections,
    factor: thousandths(factor),
    dimensions: Object.fromEntries(dimensionNames.map((name) => [name, thousandths(dimensions[name])])) as Dimensions,
  };
}

export function thousandths(value: number): number {
  return Math.round(value * 1_000) / 1_000;
}
