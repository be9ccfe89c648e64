/** Measured costs of a node. fit.ts writes them, the simulation reads them. */
import { readFileSync } from "node:fs";
import { Type } from "typebox";
import { Compile } from "typebox/compile";
import { describeFindings } from "../../shared/runtime/schema-errors.ts";

const micros = Type.Number({ exclusiveMinimum: 0 });

const figures = Type.Object({
  conditions: Type.Record(Type.String(), Type.Union([Type.String(), Type.Number()])),
  costs: Type.Object({
    coldMicros: micros,
    resumeMicros: micros,
    refusalMicros: micros,
    turnedAwayMicros: micros,
    deliveryMicros: micros,
    idleMicrosPerSecond: micros,
  }),
  /** Costs of Redis. Redis is not simulated: the report states the load that a run would put on it. */
  redis: Type.Object({ coldMicros: micros, resumeMicros: micros }),
});

export type Figures = Type.Static<typeof figures>;

const check = Compile(figures);
export const figuresFile = new URL("figures.json", import.meta.url);

export function readFigures(): Figures {
  const found: unknown = JSON.parse(readFileSync(figuresFile, "utf8"));
  if (!check.Check(found)) throw new Error(`figures.json: ${describeFindings(check.Errors(found)).join("; ")}`);
  return found;
}
