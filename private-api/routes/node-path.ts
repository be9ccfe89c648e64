/** The nodes that a call addresses: `/v1/nodes/{node}/…`. Several may have one name. */
import { type Static, Type } from "typebox";
import type { NodeOrder } from "../../shared/nodes/contract.ts";
import { TidegateError } from "../../shared/runtime/errors.ts";
import type { PrivateApiContext } from "../node/context.ts";

export const nodePath = Type.Object({ node: Type.String({ minLength: 1 }) });
export interface NodeRoute {
  Params: Static<typeof nodePath>;
}

/** Takes effect with the next report of each node of that name. @throws TidegateError `not_found` */
export async function orderNode(
  { nodeRegistry, logger }: PrivateApiContext,
  node: string,
  order: NodeOrder,
): Promise<void> {
  const ordered = await nodeRegistry.order(node, order);
  if (ordered === 0) throw noSuchNode();
  logger.info({ node, ordered }, `${order} ordered`);
}

export function noSuchNode(): TidegateError {
  return new TidegateError("not_found", "no such node: GET /v1/nodes lists them");
}
