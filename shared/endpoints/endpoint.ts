/** An endpoint: a URL outside that gets the changes it asks for. */
import { type Static, Type } from "typebox";
import { Compile } from "typebox/compile";
import type { QueuePolicy } from "../rules/rules.ts";

/** `live`: changes are sent. `shadow`: they are written into the ledger. */
export const endpointModes = ["live", "shadow"] as const;
export type EndpointMode = (typeof endpointModes)[number];

/** Why an endpoint gets nothing at present; its place in the log is kept. */
const halts = ["paused", "disabled"] as const;
export type EndpointState = EndpointMode | (typeof halts)[number];

const EndpointSecret = Type.Object({
  /** `whsec_…` */
  secret: Type.String(),
  /** Unix ms; a secret without it signs until it is rotated. */
  expiresAt: Type.Optional(Type.Integer()),
});
export type EndpointSecret = Static<typeof EndpointSecret>;

/** As it is stored. */
const Endpoint = Type.Object({
  id: Type.String(),
  url: Type.String(),
  /** Names, or prefixes and a final `*`. */
  channels: Type.Array(Type.String()),
  events: Type.Array(Type.String()),
  mode: Type.Enum([...endpointModes]),
  halted: Type.Optional(Type.Enum([...halts])),
  /** The id of the stop under way: each slot's reader stops queueing, what is queued is still sent, then the endpoint becomes a shadow. */
  stopping: Type.Optional(Type.String()),
  /** `channel`, or a JSON pointer into the data. */
  key: Type.String(),
  secrets: Type.Array(EndpointSecret),
  headers: Type.Record(Type.String(), Type.String()),
  timeoutMs: Type.Integer(),
  /** Requests at once. */
  maxInFlight: Type.Integer(),
  /** Requests a second; without it as many as it answers. */
  perSecond: Type.Optional(Type.Number()),
  tenant: Type.Optional(Type.String()),
  description: Type.Optional(Type.String()),
  /** Channel → place in the log. The endpoint gets what follows the place, whenever it was published; in other channels what follows its start. */
  after: Type.Optional(Type.Record(Type.String(), Type.String())),
  /** Other channels start with the ledger. So no read begins before the start of the endpoint, not even for the places in `after`. */
  othersFromLedger: Type.Optional(Type.Boolean()),
  /** Why it was disabled. */
  reason: Type.Optional(Type.String()),
});
export type Endpoint = Static<typeof Endpoint>;

export const endpointValidator = Compile(Endpoint);

export function stateOf({ halted, mode }: Pick<Endpoint, "halted" | "mode">): EndpointState {
  return halted ?? mode;
}

/** Endpoints of a deployment. */
export const maxEndpoints = 20_000;
/** Of one endpoint, as JSON text: with the places of 1,000 channels. */
export const maxEndpointBytes = 64 * 1024;

/** Of everything that endpoints are sent: its share of the workers can be set in the rules. */
export const endpointClass = "endpoints";
/** `ce-source` of queued changes. */
export const endpointSource = "/tidegate/changes";

/**
 * Everything but a 2xx is retried for as long as the endpoint exists: no single change is ever skipped. The schedule is that of Standard
 * Webhooks, except that no wait is longer than a minute: an endpoint that recovers gets its changes within one.
 */
export const endpointPolicy: QueuePolicy = {
  attempts: Number.MAX_SAFE_INTEGER,
  minMs: 5_000,
  maxMs: 60_000,
  onFailure: "block",
  batch: 1,
};

/** What the queues call an endpoint: no service of the rules has such a name. */
const servicePrefix = "endpoint/";

export function endpointService(id: string): string {
  return servicePrefix + id;
}

export function isEndpointService(service: string): boolean {
  return service.startsWith(servicePrefix);
}

/** @returns undefined for the name of a service. */
export function endpointOfService(service: string): string | undefined {
  return isEndpointService(service) ? service.slice(servicePrefix.length) : undefined;
}
