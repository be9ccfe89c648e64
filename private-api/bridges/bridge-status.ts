/** What the process that runs a bridge reports, for the answers of every private API. */
import { type Static, Type } from "typebox";
import { Compile } from "typebox/compile";
import { parseJson } from "../../shared/json/json.ts";

const closed = { additionalProperties: false } as const;

export const BridgeStatus = Type.Object(
  {
    /** degraded: not joined, or one direction fails, and it is tried again soon. refused: something must be changed. */
    state: Type.Enum(["live", "degraded", "refused"]),
    /** For how long publications may have waited to be emitted: 0 once all that was read last is, and no more waits. */
    lagMs: Type.Integer({ minimum: 0 }),
    /** When it was reported, in Unix ms. */
    at: Type.Integer(),
    lastError: Type.Optional(Type.Object({ at: Type.Integer(), message: Type.String() }, closed)),
  },
  closed,
);
export type BridgeStatus = Static<typeof BridgeStatus>;

const validator = Compile(BridgeStatus);

export function parseBridgeStatus(text: string): BridgeStatus | undefined {
  const value = parseJson(text);
  return validator.Check(value) ? value : undefined;
}
