/** Checks the rules document: its form, its references, and what its parts mean together. Pure. */
import { membersOf } from "../json/json.ts";
import { Compile } from "typebox/compile";
import { InvalidDocument } from "../runtime/invalid-document.ts";
import { isRepresentable } from "../rollouts/point.ts";
import { type Explained, explain, maxFindings } from "../runtime/schema-errors.ts";
import { Bridge, bridgeFindings, type BridgeRule } from "./bridges.ts";
import { RouteTable } from "./route-table.ts";
import type { Environment } from "../runtime/settings.ts";
import { secretFindings, writtenSecrets } from "./secrets.ts";
import * as schema from "./schema.ts";
import { Source, sourceFindings, type SourceRule } from "./sources.ts";
import { maxShards, SqlSource, sqlSourceFindings, type SqlSourceRule } from "./sql-sources.ts";

const validator = Compile(schema.RulesDocument);
const frameValidator = Compile(schema.Frame);
const parts = {
  namespace: Compile(schema.Namespace),
  service: Compile(schema.Service),
  route: Compile(schema.Route),
  source: Compile(Source),
  sqlSource: Compile(SqlSource),
  bridge: Compile(Bridge),
};

/** The parts of a document that match their schema. `serviceNames` and `references` are also of parts that do not. */
interface WellFormedParts {
  serviceNames: ReadonlySet<string>;
  services: readonly (readonly [name: string, schema.ServiceRule])[];
  routes: readonly (readonly [index: number, schema.RouteRule])[];
  references: readonly (readonly [path: string, service: string])[];
  classNames: ReadonlySet<string>;
  sources: readonly (readonly [name: string, SourceRule])[];
  sqlSources: readonly (readonly [name: string, SqlSourceRule])[];
  bridges: readonly (readonly [name: string, BridgeRule])[];
}

/**
 * @param environment of the program that resolves the secrets of services; undefined: they are not checked
 * @throws InvalidDocument with all findings: schema, references, secrets.
 */
export function checkRules(value: unknown, environment?: Environment): schema.RulesDocument {
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw new InvalidDocument("rules", [
      value === null ? "is empty: a document without rules is {}" : "must be an object",
    ]);
  }
  const wellFormed = wellFormedParts(value);
  const meaning = [
    ...missingReferences(wellFormed),
    ...ambiguities(wellFormed),
    ...(environment ? findingsOfSecrets(wellFormed, environment) : []),
    ...findingsOfSources(wellFormed),
    ...findingsOfSqlSources(wellFormed),
    ...bridgeFindings(wellFormed.bridges, changesKept(value)),
  ];
  if (!validator.Check(value)) throw new InvalidDocument("rules", [...formFindings(value), ...meaning]);
  if (meaning.length > 0) throw new InvalidDocument("rules", meaning);
  return value;
}

/** Checks entry by entry until enough findings are listed: the library's own list would spend time on valid entries too. */
function formFindings(value: object): string[] {
  const { namespaces, services, routes, sources, sqlSources, bridges, ...others } = membersOf(value);
  return [
    ...explain(frameValidator, others),
    ...entryFindings("namespaces", namespaces, {
      max: schema.maxNames,
      isMap: true,
      validator: parts.namespace,
      name: schema.namespaceName,
    }),
    ...entryFindings("services", services, {
      max: schema.maxNames,
      isMap: true,
      validator: parts.service,
      name: schema.serviceName,
    }),
    ...entryFindings("sources", sources, {
      max: schema.maxNames,
      isMap: true,
      validator: parts.source,
      name: schema.serviceName,
    }),
    ...entryFindings("sqlSources", sqlSources, {
      max: schema.maxNames,
      isMap: true,
      validator: parts.sqlSource,
      name: schema.serviceName,
    }),
    ...entryFindings("bridges", bridges, {
      max: schema.maxNames,
      isMap: true,
      validator: parts.bridge,
      name: schema.serviceName,
    }),
    ...entryFindings("routes", routes, { max: schema.maxRoutes, isMap: false, validator: parts.route }),
  ];
}

function entryFindings(
  member: string,
  entries: unknown,
  part: { max: number; isMap: boolean; validator: Explained & { Check(value: unknown): boolean }; name?: RegExp },
): string[] {
  if (entries === undefined) return [];
  if (typeof entries !== "object" || entries === null || Array.isArray(entries) === part.isMap) {
    return [`${member}: must be ${part.isMap ? "an object" : "an array"}`];
  }
  const all = Object.entries(entries);
  const findings = all.length > part.max ? [`${member}: has ${all.length} entries, more than ${part.max}`] : [];
  for (const [name, given] of all) {
    if (findings.length > maxFindings) break;
    if (part.name?.test(name) === false) findings.push(`${member}.${name}: is not a valid name`);
    if (!part.validator.Check(given)) findings.push(...explain(part.validator, given, { path: `/${member}/${name}` }));
  }
  return findings;
}

function wellFormedParts(value: unknown): WellFormedParts {
  const document = membersOf(value);
  const services = entriesOf(document["services"]);
  return {
    serviceNames: new Set(services.map(([name]) => name)),
    services: services.flatMap(([name, given]) => (parts.service.Check(given) ? [[name, given] as const] : [])),
    routes: entriesOf(document["routes"]).flatMap(([index, given]) =>
      parts.route.Check(given) ? [[Number(index), given] as const] : [],
    ),
    references: referencesOf(document),
    classNames: new Set(entriesOf(document["classes"]).map(([name]) => name)),
    sources: entriesOf(document["sources"]).flatMap(([name, given]) =>
      parts.source.Check(given) ? [[name, given] as const] : [],
    ),
    sqlSources: entriesOf(document["sqlSources"]).flatMap(([name, given]) =>
      parts.sqlSource.Check(given) ? [[name, given] as const] : [],
    ),
    bridges: entriesOf(document["bridges"]).flatMap(([name, given]) =>
      parts.bridge.Check(given) ? [[name, given] as const] : [],
    ),
  };
}

function missingReferences({ serviceNames, references }: WellFormedParts): string[] {
  return references
    .filter(([, service]) => !serviceNames.has(service))
    .map(([path, service]) => `${path}: no such service: "${service}" (add it under services)`);
}

/** The services that a document names, with the places; also of routes and hooks that do not match their schema. */
function referencesOf(document: Record<string, unknown>): [path: string, service: string][] {
  const routes = entriesOf(document["routes"]).flatMap(([index, given]): [string, unknown][] => {
    const { service, rollout, shadow, also } = membersOf(given);
    return [
      [`routes.${index}.service`, service],
      [`routes.${index}.rollout.to`, membersOf(rollout)["to"]],
      [`routes.${index}.shadow`, shadow],
      ...entriesOf(also).map(([at, name]): [string, unknown] => [`routes.${index}.also.${at}`, name]),
    ];
  });
  const hooks = entriesOf(document["hooks"]).map(([hook, service]): [string, unknown] => [`hooks.${hook}`, service]);
  return [...routes, ...hooks].filter((each): each is [string, string] => typeof each[1] === "string");
}

function entriesOf(member: unknown): [string, unknown][] {
  return Object.entries(membersOf(member));
}

function findingsOfSecrets({ services }: WellFormedParts, environment: Environment): string[] {
  return services.flatMap(([name, service]) => secretFindings(name, writtenSecrets(service), environment));
}

function findingsOfSources({ sources, routes, classNames }: WellFormedParts): string[] {
  const table = new RouteTable(routes.map(([, route]) => route));
  return sources.flatMap(([name, source]) =>
    sourceFindings(name, source, {
      routeOf: (event) => table.find(event),
      hasClass: (given) => given === schema.defaultClass || classNames.has(given),
    }),
  );
}

function findingsOfSqlSources({ sqlSources }: WellFormedParts): string[] {
  const findings = sqlSources.flatMap(([name, source]) => sqlSourceFindings(name, source));
  const shards = sqlSources.reduce((sum, [, { url }]) => sum + [url].flat().length, 0);
  if (shards > maxShards) findings.push(`sqlSources: have ${shards} shards, more than ${maxShards}`);
  return findings;
}

/** Whether a namespace has `changes: true`, its own or that of `default`; also in a document with other findings. */
function changesKept(value: unknown): (namespace: string) => boolean {
  const namespaces = membersOf(membersOf(value)["namespaces"]);
  return (name) => (membersOf(namespaces[name])["changes"] ?? membersOf(namespaces["default"])["changes"]) === true;
}

/** RFC 6901, to a part of the data. */
const pointer = /^(\/([^~/]|~[01])*)+$/;
/** Members of a route that only queued events have. */
const queueMembers = ["key", "class", "retry", "onFailure", "batch", "also"] as const;

function ambiguities({ routes, services, classNames }: WellFormedParts): string[] {
  const findings: string[] = [];
  const events = new Set<string>();
  for (const [index, route] of routes) {
    if (events.has(route.event)) findings.push(`routes.${index}.event: "${route.event}" has a route already`);
    events.add(route.event);
    if (route.rollout?.to === route.service) findings.push(`routes.${index}.rollout.to: is the route's own service`);
    if (route.rollout && !isRepresentable(route.rollout.percent)) {
      findings.push(`routes.${index}.rollout.percent: has more than two decimals`);
    }
    findings.push(...queueFindings(index, route, classNames));
    if (route.shadow === route.service) findings.push(`routes.${index}.shadow: is the route's own service`);
  }
  for (const [name, service] of services) {
    const given = [service.secret, service.secrets].filter((secret) => secret !== undefined).length;
    if (given !== 1) findings.push(`services.${name}: give either secret or secrets`);
    // The name of a cell can stand in the name of a host.
    const url = URL.parse(service.url.replaceAll("{cell}", "main"));
    if (!url) findings.push(`services.${name}.url: is not a URL`);
    else if (url.username || url.password) {
      findings.push(
        `services.${name}.url: must have no user or password: the service authenticates requests by its secret`,
      );
    }
  }
  return findings;
}

function queueFindings(index: number, route: schema.RouteRule, classNames: ReadonlySet<string>): string[] {
  const path = `routes.${index}`;
  if (route.mode === "call") {
    return queueMembers
      .filter((member) => route[member] !== undefined)
      .map((member) => `${path}.${member}: only for mode: enqueue`);
  }
  const { service, rollout, key, retry, also = [] } = route;
  const findings: string[] = [];
  if (route.shadow !== undefined) findings.push(`${path}.shadow: only for mode: call`);
  if (key !== undefined && !pointer.test(key)) {
    findings.push(`${path}.key: must be a JSON pointer into the data, such as "/docId"`);
  }
  if (route.class !== undefined && route.class !== schema.defaultClass && !classNames.has(route.class)) {
    findings.push(`${path}.class: no such class: "${route.class}" (add it under classes)`);
  }
  const { minMs, maxMs } = { ...schema.retryDefaults, ...retry };
  if (minMs > maxMs) {
    const given = retry?.minMs === undefined ? "the default of minMs" : "minMs";
    findings.push(`${path}.retry: ${given}, ${minMs}, is more than maxMs, ${maxMs}`);
  }
  const targets = [service, ...(rollout ? [rollout.to] : []), ...also];
  if (also.length > 0 && new Set(targets).size < targets.length) findings.push(`${path}.also: names a service twice`);
  return findings;
}
