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
import { ReturnSlots } from "../entrance/return-slots.ts";
import type { FleetMember } from "../fleet/fleet-member.ts";
import { clientAddress, type ProxyTrust } from "../entrance/client-address.ts";
import { allowOrigin, ownOrigin } from "./origins.ts";
import { Placement } from "./placement.ts";
import { readSubject } from "./subject.ts";

const path = "/v1/bootstrap";
/** A small fleet's pages may ask for their configuration more often than it lets connections in. */
const minPerSecond = 100;
/** Seats take a while to become free, or a node to be started. */
const fullRetryMs = 5_000;
const busyRetryMs = 1_000;
/** Requests are cheap to repeat, also for those who want others to wait long. */
const horizonMs = 60_000;
/** Of 429 at a time; past it one comes at once. */
const maxDelayed = 1_000;
/** Answers that a token costs which was checked in vain. */
const forgedTokenCost = 4;
const maxClientIdLength = 256;

const Query = Type.Object({
  client: Type.Optional(Type.String({ minLength: 1, maxLength: maxClientIdLength })),
});

interface Self {
  instance: string;
  url: string | undefined;
  hasPlace: boolean;
}

export interface BootstrapOptions {
  verify: Verifier;
  rollouts: CurrentRollouts;
  fleet: FleetMember;
  /** This node, as it is now. */
  self: () => Self;
  reconnectPolicy: () => ReconnectPolicy;
  origins: OriginPolicy;
  trustedProxies: ProxyTrust;
  /** By `node`, `group` (which has an address of its own), or the code of the refusal. */
  counter: Counter<"outcome">;
}

/** `GET /v1/bootstrap` → {@link Bootstrap}: where to connect, and with what. Asks nobody, and reads what is in memory. */
export function addBootstrap(app: FastifyInstance, options: BootstrapOptions): void {
  const { verify, rollouts, fleet, self, reconnectPolicy, origins, trustedProxies, counter } = options;
  const placement = new Placement();
  fleet.onReport(() => placement.update(fleet.nodes));
  /** Of this node: no more could be let in by the whole fleet. */
  const perSecond = Math.max(minPerSecond, fleet.budgetPerSecond);
  const budget = new FairBudget(perSecond, performance.now());
  const busySlots = new ReturnSlots({ horizonMs });
  const fullSlots = new ReturnSlots({ horizonMs });
  const refusalDelay = new RefusalDelay(maxDelayed);

  async function answer(request: FastifyRequest<{ Querystring: { client?: string } }>): Promise<Bootstrap> {
    const address = clientAddress(request.raw, trustedProxies);
    const now = performance.now();
    if (!budget.take(address, now)) {
      const retryAfterMs = busySlots.take(now, { perSecond, notBeforeMs: busyRetryMs, address });
      await new Promise<void>((resolve) => refusalDelay.before(resolve));
      throw new TidegateError("rate_limited", "too many ask at once", { retryAfterMs });
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
    const answered = { url: url ?? placeFor(request, address), reconnect: reconnectPolicy(), group: name, config };
    counter.inc({ outcome: url === undefined ? "node" : "group" });
    return answered;
  }

  function placeFor(request: FastifyRequest, address: string): string {
    const node = choose();
    if (node) return node.url ?? ownOrigin(request, trustedProxies);
    const answering = Math.max(1, fleet.nodes.length);
    const retryAfterMs = fullSlots.take(performance.now(), {
      perSecond: fleet.budgetPerSecond / answering,
      notBeforeMs: fullRetryMs,
      address,
    });
    throw new TidegateError("upstream_unavailable", "no node can take a connection now", { retryAfterMs });
  }

  function choose(): { url?: string | undefined } | undefined {
    const here = self();
    // Nothing was heard of the fleet yet: there is this node.
    if (fleet.nodes.length === 0) return here.hasPlace ? here : undefined;
    return placement.choose(({ instance }) => instance !== here.instance || here.hasPlace);
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
