import type { FastifyInstance } from "fastify";
import { type NodeLoadAnswer, toLoadAnswer } from "../../shared/nodes/load-answer.ts";
import type { NodeReport } from "../../shared/nodes/contract.ts";

/** `GET /load` on the admin port: how full this node is now. */
export function addLoadRoute(app: FastifyInstance, describe: () => NodeReport): void {
  app.get("/load", { schema: { hide: true } }, (): NodeLoadAnswer => toLoadAnswer(describe()));
}
