/** The rules document: its schema, its defaults, and what else must hold in it. Pure. */
import { type Static, Type } from "typebox";
import { Compile } from "typebox/compile";
import { describeFindings } from "../schema-errors.ts";

const closed = { additionalProperties: false } as const;
const Name = Type.String({ pattern: "^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$" });
const EventPattern = Type.String({ pattern: "^([A-Za-z0-9][A-Za-z0-9_.:-]{0,127}\\*?|\\*)$" });
/** `env:NAME`, read where it is used, or `whsec_` and the base64 of at least 32 bytes. */
const Secret = Type.String({ pattern: "^(env:[A-Za-z_][A-Za-z0-9_]*|whsec_[A-Za-z0-9+/]{43,}={0,2})$" });

const Namespace = Type.Object(
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

const Service = Type.Object(
  {
    url: Type.String({ pattern: "^https?://[^\\s/?#]+(/[^\\s?#]*)?$" }),
    secret: Type.Optional(Secret),
    /** During rotation: signed with each, the first is also the JWT's key. */
    secrets: Type.Optional(Type.Array(Secret, { minItems: 1, maxItems: 5 })),
    timeoutMs: Type.Optional(Type.Integer({ minimum: 1, maximum: 600_000 })),
    maxInFlight: Type.Optional(Type.Integer({ minimum: 1, maximum: 10_000 })),
  },
  closed,
);

const Route = Type.Object(
  {
    event: EventPattern,
    service: Name,
    path: Type.String({ pattern: "^/[^\\s#]*$" }),
    mode: Type.Enum(["call", "enqueue"]),
    key: Type.Optional(Type.String()),
    class: Type.Optional(Name),
    rollout: Type.Optional(Type.Unknown()),
    shadow: Type.Optional(Name),
    also: Type.Optional(Type.Array(Name)),
  },
  closed,
);

const hookNames = ["connect", "subscribe", "connected", "disconnected"] as const;
const Hooks = Type.Object(
  {
    connect: Type.Optional(Name),
    subscribe: Type.Optional(Name),
    connected: Type.Optional(Name),
    disconnected: Type.Optional(Name),
  },
  closed,
);

export const RulesDocument = Type.Object(
  {
    namespaces: Type.Optional(
      Type.Record(Type.String({ pattern: "^[a-z0-9_-]{1,32}$" }), Namespace, { additionalProperties: false }),
    ),
    services: Type.Optional(
      Type.Record(Type.String({ pattern: "^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$" }), Service, {
        additionalProperties: false,
      }),
    ),
    routes: Type.Optional(Type.Array(Route, { maxItems: 10_000 })),
    hooks: Type.Optional(Hooks),
    sources: Type.Optional(Type.Record(Type.String(), Type.Unknown())),
  },
  closed,
);

export type RulesDocument = Static<typeof RulesDocument>;
export type NamespaceRule = Static<typeof Namespace>;
export type ServiceRule = Static<typeof Service>;
export type RouteRule = Static<typeof Route>;

const validator = Compile(RulesDocument);

/** Every finding of a refused document. */
export class RulesError extends Error {
  readonly findings: readonly string[];
  constructor(findings: readonly string[]) {
    super(`the rules are not valid: ${findings.join("; ")}`);
    this.name = "RulesError";
    this.findings = findings;
  }
}

/** @throws RulesError with every finding: form first, then what refers to what is not there or not supported. */
export function checkRules(value: unknown): RulesDocument {
  if (!validator.Check(value)) throw new RulesError(describeFindings(validator.Errors(value)));
  const findings = [...missingReferences(value), ...ambiguities(value), ...unsupported(value)];
  if (findings.length > 0) throw new RulesError(findings);
  return value;
}

function missingReferences(document: RulesDocument): string[] {
  const services = new Set(Object.keys(document.services ?? {}));
  const references = [
    ...(document.routes ?? []).map((route, index) => [`routes.${index}.service`, route.service] as const),
    ...Object.entries(document.hooks ?? {}).map(([hook, service]) => [`hooks.${hook}`, service] as const),
  ];
  return references
    .filter(([, service]) => !services.has(service))
    .map(([path, service]) => `${path}: there is no service "${service}" (add it under services)`);
}

function ambiguities(document: RulesDocument): string[] {
  const findings: string[] = [];
  const events = new Set<string>();
  for (const [index, route] of (document.routes ?? []).entries()) {
    if (events.has(route.event)) findings.push(`routes.${index}.event: "${route.event}" has a route already`);
    events.add(route.event);
  }
  for (const [name, service] of Object.entries(document.services ?? {})) {
    const given = [service.secret, service.secrets].filter((secret) => secret !== undefined).length;
    if (given !== 1) findings.push(`services.${name}: give either secret or secrets`);
    if (!URL.canParse(service.url)) findings.push(`services.${name}.url: is not a URL`);
  }
  return findings;
}

/** Parts of the document that this version does not act on yet are refused, so that nobody relies on them. */
function unsupported(document: RulesDocument): string[] {
  const paths: string[] = [];
  for (const [name, namespace] of Object.entries(document.namespaces ?? {})) {
    for (const option of ["presence", "joinLeave", "changes"] as const) {
      if (namespace[option]) paths.push(`namespaces.${name}.${option}`);
    }
    if (namespace.slow === "latest") paths.push(`namespaces.${name}.slow: latest`);
  }
  for (const [index, route] of (document.routes ?? []).entries()) {
    if (route.mode === "enqueue") paths.push(`routes.${index}.mode: enqueue`);
    for (const option of ["key", "class", "rollout", "shadow", "also"] as const) {
      if (route[option] !== undefined) paths.push(`routes.${index}.${option}`);
    }
  }
  for (const hook of hookNames.slice(2)) if (document.hooks?.[hook] !== undefined) paths.push(`hooks.${hook}`);
  if (Object.keys(document.sources ?? {}).length > 0) paths.push("sources");
  return paths.map((path) => `${path}: not supported in this version`);
}
