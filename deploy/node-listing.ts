/** The members of `GET /v1/nodes` that a rolling restart reads. */
import { type Static, Type } from "typebox";
import { Compile } from "typebox/compile";

const Count = Type.Integer({ minimum: 0 });

const Drain = Type.Object({
  startedAt: Count,
  endedAt: Type.Optional(Count),
  sessions: Count,
  moved: Count,
  closed: Count,
  forced: Count,
  lost: Count,
  left: Count,
});

const ListedNode = Type.Object({
  node: Type.String(),
  instance: Type.String(),
  state: Type.String(),
  connections: Count,
  drain: Type.Optional(Drain),
});
export type ListedNode = Static<typeof ListedNode>;

const Listing = Type.Object({ nodes: Type.Array(ListedNode) });
const validator = Compile(Listing);

export function isListing(value: unknown): value is Static<typeof Listing> {
  return validator.Check(value);
}
