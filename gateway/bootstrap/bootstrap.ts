import type { FastifyInstance, FastifyRequest } from "fastify";
import { Type } from "typebox";
import { TidegateError } from "../../shared/runtime/errors.ts";
import { assertDecodable } from "../../shared/http/query.ts";
import { RefusalDelay } from "../../shared/http/refusal-delay.ts";
import type { Verifier } from "../../shared/tokens/jwt.ts";
import type { Counter } from "../../shared/runtime/metrics.ts";
import type { Bootstrap, ReconnectPolicy } from "../../shared/protocol/wire.ts";
import type { CurrentRollouts } from "../../shared/rollouts/current-rollouts.ts";
import type { OriginPolicy } from "../entrance/allowed-origins.ts";
import { FairBudget } from "../entrance/fair-budget.ts";
import { ReconnectTimes } from "../entrance/reconnect-times.ts";
import type { FleetMember } from "../fleet/fleet-member.ts";
import { clientAddress, type ProxyTrust } from "../entrance/client-address.ts";
import { allowOrigin, ownOrigin } from "./origins.ts";
import { Placement } from "./placement.ts";
import { readSubject } from "./subject.ts";

const path = "/v1/bootstrap";
/** The least rate of a node: pages of a small fleet may ask more often than the fleet admits connections. */
const minPerSecond = 100;
/** Time for seats to become free, or for another node to start. */
const fullRetryMs = 5_000;
const busyRetryMs = 1_000;
/** The longest retry-after. Short: a client that repeats requests, which cost it nothing, must not delay others for long. */
const horizonMs = 60_000;
/** Refusals that are delayed at a time; past it, a refusal is sent at once. */
const maxDelayed = 1_000;
/** A forged token costs as much of the budget as so many answers. */
const forgedTokenCost = 4;
const maxClientIdLength = 256;

const Query = Type.Object({
  client: Type.Optional(Type.String({ minLength: 1, maxLength: maxClientIdLength })),
});

interface OwnNode {
  instance: string;
  url: string | undefined;
  hasFreeSeat: boolean;
}

export interface BootstrapOptions {
  verify: Verifier;
  rollouts: CurrentRollouts;
  fleet: FleetMember;
  /** The current state of this node. */
  ownNode: () => OwnNode;
  reconnectPolicy: () => ReconnectPolicy;
  origins: OriginPolicy;
  trustedProxies: ProxyTrust;
  /** By `node`, `group` (the group has an address of its own), or the code of the refusal. */
  counter: Counter<"outcome">;
}

/** `GET /v1/bootstrap` → {@link Bootstrap}: where to connect, and the configuration of the client's group. Does no I/O of its own. */
export function addBootstrap(app: FastifyInstance, options: BootstrapOptions): void {
  const { verify, rollouts, fleet, ownNode, reconnectPolicy, origins, trustedProxies, counter } = options;
  const placement = new Placement();
  fleet.onReport(() => placement.update(fleet.nodes));
  // Of this node alone: enough for all clients that the fleet admits.
  const perSecond = Math.max(minPerSecond, fleet.budgetPerSecond);
  const budget = new FairBudget(perSecond, performance.now());
  const retryTimes = { busy: new ReconnectTimes({ horizonMs }), full: new ReconnectTimes({ horizonMs }) };
  const refusalDelay = new RefusalDelay(maxDelayed);

  async function answer(request: FastifyRequest<{ Querystring: { client?: string } }>): Promise<Bootstrap> {
    const address = clientAddress(request.raw, trustedProxies);
    const now = performance.now();
    if (!budget.take(address, now)) {
      const retryAfterMs = retryTimes.busy.take(now, { perSecond, notBeforeMs: busyRetryMs, address });
      await new Promise<void>((resolve) => refusalDelay.before(resolve));
      throw new TidegateError("rate_limited", "too many requests at once", { retryAfterMs });
    }
    assertDecodable(request.url);
    const { authorization } = request.headers;
    const subject = await readSubject(verify, { authorization, client: request.query.client }).catch(
      (error: unknown) => {
        const isForged = error instanceof TidegateError && error.code === "unauthenticated";
        if (isForged) budget.owe(address, forgedTokenCost, performance.now());
        throw error;
      },
    );
    const { name, url, config = {} } = rollouts.rollouts.groupOf(subject);
    const answer = { url: url ?? urlOfNode(request, address), reconnect: reconnectPolicy(), group: name, config };
    counter.inc({ outcome: url === undefined ? "node" : "group" });
    return answer;
  }

  function urlOfNode(request: FastifyRequest, address: string): string {
    const node = chooseNode(fleet, placement, ownNode());
    if (node) return node.url ?? ownOrigin(request.raw, trustedProxies);
    const answering = Math.max(1, fleet.nodes.length);
    const retryAfterMs = retryTimes.full.take(performance.now(), {
      perSecond: fleet.budgetPerSecond / answering,
      notBeforeMs: fullRetryMs,
      address,
    });
    throw new TidegateError("upstream_unavailable", "no node can take a connection now", { retryAfterMs });
  }

  app.register(async (scope) => {
    scope.addHook("onRequest", async (request, reply) => {
      allowOrigin(origins, request, reply);
      void reply.header("cache-control", "no-store");
    });
    scope.addHook("onError", async (_request, _reply, error) => {
      const own = error.validation ? "invalid_request" : "upstream_failed";
      counter.inc({ outcome: error instanceof TidegateError ? error.code : own });
    });
    scope.get(path, { schema: { querystring: Query } }, answer);
    scope.options(path, async (_request, reply) => reply.code(204).send());
  });
}

function chooseNode(fleet: FleetMember, placement: Placement, own: OwnNode): { url?: string | undefined } | undefined {
  // Before the first report of the fleet, this node is the only one it knows.
  if (fleet.nodes.length === 0) return own.hasFreeSeat ? own : undefined;
  return placement.choose(({ instance }) => instance !== own.instance || own.hasFreeSeat);
}
