/** What the reader of a shard reports, for the answers of every private API. */
import { type Static, Type } from "typebox";
import { Compile } from "typebox/compile";
import { parseJson } from "../../shared/json/json.ts";

const closed = { additionalProperties: false } as const;

export const ShardStatus = Type.Object(
  {
    /** live: everything visible is published, or is at the moment. failing: tried again soon. refused: something must be changed. */
    state: Type.Enum(["live", "failing", "refused"]),
    /** For how long rows may have been visible and not published: 0 once all that was read last is, and a read found no more. */
    lagMs: Type.Integer({ minimum: 0 }),
    /** When it was reported, in Unix ms. */
    at: Type.Integer(),
    lastError: Type.Optional(Type.Object({ at: Type.Integer(), message: Type.String() }, closed)),
  },
  closed,
);
export type ShardStatus = Static<typeof ShardStatus>;

const validator = Compile(ShardStatus);

export function parseShardStatus(text: string): ShardStatus | undefined {
  const value = parseJson(text);
  return validator.Check(value) ? value : undefined;
}
