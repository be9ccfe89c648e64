/** The form of the rules document. */
import { type Static, Type } from "typebox";
import { Bridge } from "./bridges.ts";
import { Source } from "./sources.ts";
import { SqlSource } from "./sql-sources.ts";

const closed = { additionalProperties: false } as const;
export const maxRoutes = 10_000;
/** Most namespaces, most services, most sources, and most SQL sources. */
export const maxNames = 1_000;
const bounded = { ...closed, maxProperties: maxNames };
const Name = Type.String({ pattern: "^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$" });
const EventPattern = Type.String({ pattern: "^([A-Za-z0-9][A-Za-z0-9_.:-]{0,127}\\*?|\\*)$" });
/** `env:NAME`, resolved by the process that uses it; or `whsec_` and the base64 of at least 32 bytes. */
const Secret = Type.String({ pattern: "^(env:[A-Za-z_][A-Za-z0-9_]*|whsec_[A-Za-z0-9+/]{43,}={0,2})$" });

export const Namespace = Type.Object(
  {
    access: Type.Optional(Type.Enum(["token", "user"])),
    historySize: Type.Optional(Type.Integer({ minimum: 0, maximum: 100_000 })),
    historySeconds: Type.Optional(Type.Integer({ minimum: 1, maximum: 2_592_000 })),
    presence: Type.Optional(Type.Boolean()),
    joinLeave: Type.Optional(Type.Boolean()),
    slow: Type.Optional(Type.Enum(["disconnect", "latest"])),
    changes: Type.Optional(Type.Boolean()),
  },
  closed,
);

export const Service = Type.Object(
  {
    url: Type.String({ pattern: "^https?://[^\\s/?#]+(/[^\\s?#]*)?$" }),
    secret: Type.Optional(Secret),
    /** For rotation: each one signs; the first one is also the key of the JWT. */
    secrets: Type.Optional(Type.Array(Secret, { minItems: 1, maxItems: 5 })),
    timeoutMs: Type.Optional(Type.Integer({ minimum: 1, maximum: 600_000 })),
    maxInFlight: Type.Optional(Type.Integer({ minimum: 1, maximum: 10_000 })),
  },
  closed,
);

/** Routes a fixed part of the callers to another service. */
const RouteRollout = Type.Object(
  {
    to: Name,
    percent: Type.Number({ minimum: 0, maximum: 100 }),
    by: Type.Optional(Type.Enum(["user", "tenant"])),
  },
  closed,
);

/** Attempts at a queued item, and the time between them: it doubles from `minMs` to `maxMs`. */
const Retry = Type.Object(
  {
    attempts: Type.Optional(Type.Integer({ minimum: 1, maximum: 1_000 })),
    minMs: Type.Optional(Type.Integer({ minimum: 1, maximum: 3_600_000 })),
    maxMs: Type.Optional(Type.Integer({ minimum: 1, maximum: 86_400_000 })),
  },
  closed,
);

export const retryDefaults = { attempts: 12, minMs: 500, maxMs: 60_000 } as const;

export const Route = Type.Object(
  {
    event: EventPattern,
    service: Name,
    path: Type.String({ pattern: "^/[^\\s#]*$" }),
    mode: Type.Enum(["call", "enqueue"]),
    /** JSON pointer into the data; without it the key is the user. */
    key: Type.Optional(Type.String({ maxLength: 256 })),
    class: Type.Optional(Name),
    retry: Type.Optional(Retry),
    onFailure: Type.Optional(Type.Enum(["skip", "park", "block"])),
    batch: Type.Optional(Type.Integer({ minimum: 1, maximum: 100 })),
    rollout: Type.Optional(RouteRollout),
    /** Also gets every request; its answer is compared, not used. */
    shadow: Type.Optional(Name),
    /** Services that get each item as well, through queues of their own. */
    also: Type.Optional(Type.Array(Name, { maxItems: 8 })),
  },
  closed,
);

const Hooks = Type.Object(
  {
    connect: Type.Optional(Name),
    subscribe: Type.Optional(Name),
    connected: Type.Optional(Name),
    disconnected: Type.Optional(Name),
  },
  closed,
);

/** The class of everything that names none. */
export const defaultClass = "messages";
/** A kind of queued work with its own share of the workers. */
const Class = Type.Object(
  {
    share: Type.Optional(Type.Integer({ minimum: 1, maximum: 1_000 })),
    whenFull: Type.Optional(Type.Enum(["refuse", "drop"])),
  },
  closed,
);
const maxClasses = 32;
/** Items that may wait. */
const Quotas = Type.Object(
  {
    perTenant: Type.Optional(Type.Integer({ minimum: 1, maximum: 1_000_000_000 })),
    perSource: Type.Optional(Type.Integer({ minimum: 1, maximum: 1_000_000_000 })),
  },
  closed,
);

export const namespaceName = /^[a-z0-9_-]{1,32}$/;
export const serviceName = /^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$/;
const frame = {
  hooks: Type.Optional(Hooks),
  classes: Type.Optional(
    Type.Record(Type.String({ pattern: serviceName.source }), Class, { ...closed, maxProperties: maxClasses }),
  ),
  quotas: Type.Optional(Quotas),
  /** Publishes to a namespace that the document does not list are refused. */
  strictNamespaces: Type.Optional(Type.Boolean()),
};

/** A document without its namespaces, services, routes, sources, SQL sources and bridges. */
export const Frame = Type.Object(frame, closed);

export const RulesDocument = Type.Object(
  {
    namespaces: Type.Optional(Type.Record(Type.String({ pattern: namespaceName.source }), Namespace, bounded)),
    services: Type.Optional(Type.Record(Type.String({ pattern: serviceName.source }), Service, bounded)),
    routes: Type.Optional(Type.Array(Route, { maxItems: maxRoutes })),
    sources: Type.Optional(Type.Record(Type.String({ pattern: serviceName.source }), Source, bounded)),
    sqlSources: Type.Optional(Type.Record(Type.String({ pattern: serviceName.source }), SqlSource, bounded)),
    bridges: Type.Optional(Type.Record(Type.String({ pattern: serviceName.source }), Bridge, bounded)),
    ...frame,
  },
  closed,
);

export type RulesDocument = Static<typeof RulesDocument>;
export type NamespaceRule = Static<typeof Namespace>;
export type ServiceRule = Static<typeof Service>;
export type RouteRule = Static<typeof Route>;
export type ClassRule = Static<typeof Class>;
