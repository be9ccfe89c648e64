/** The rules in force, indexed for lookups. Pure. */
import type { Retention } from "../channels/contract.ts";
import { namespaceOf } from "../protocol/grammar.ts";
import {
  type SessionEventKind,
  sessionEventKinds,
  sessionEventType,
  sessionSource,
} from "../protocol/session-events.ts";
import * as schema from "./schema.ts";
import type { BridgeRule } from "./bridges.ts";
import { RouteTable } from "./route-table.ts";
import { writtenSecrets } from "./secrets.ts";
import type { SourceRule } from "./sources.ts";
import type { SqlSourceRule } from "./sql-sources.ts";

export type NamespaceOptions = Required<schema.NamespaceRule> & Retention;

const builtInNamespace: NamespaceOptions = {
  access: "token",
  historySize: 100,
  historySeconds: 300,
  presence: false,
  joinLeave: false,
  slow: "disconnect",
  changes: false,
};

export const serviceDefaults = { timeoutMs: 5_000, maxInFlight: 64 } as const;

export interface ServiceOptions {
  name: string;
  url: string;
  timeoutMs: number;
  maxInFlight: number;
  /** As written: `env:NAME` or the secret itself. */
  secrets: readonly string[];
  /** Hooks that the service serves. */
  hooks: readonly HookName[];
}

/** How items of an event are delivered. */
export interface QueuePolicy {
  /** After which the item has failed. */
  attempts: number;
  /** Between two attempts: doubles from `minMs` to `maxMs`. */
  minMs: number;
  maxMs: number;
  onFailure: "skip" | "park" | "block";
  /** Items of one queue that one request carries. */
  batch: number;
}

export interface Quotas {
  /** Items of one tenant that may wait. */
  perTenant: number;
  /** Items of one webhook source that may wait. */
  perSource: number;
}

const quotaDefaults: Quotas = { perTenant: 100_000, perSource: 1_000_000 };
const classDefaults: Required<schema.ClassRule> = { share: 1, whenFull: "refuse" };

/** A class of work for a service. */
export interface QueueTarget {
  readonly class: string;
  readonly service: string;
}

export type HookName = "connect" | "subscribe";
const hookNames: readonly HookName[] = ["connect", "subscribe"];

export class Rules {
  /** 0: no rules are stored yet. */
  readonly version: number;
  readonly document: schema.RulesDocument;
  readonly #namespaces: ReadonlyMap<string, NamespaceOptions>;
  readonly #defaultNamespace: NamespaceOptions;
  readonly #services: ReadonlyMap<string, ServiceOptions>;
  readonly #routes: RouteTable;
  /** By name; the default class is always among them. */
  readonly classes: ReadonlyMap<string, Required<schema.ClassRule>>;
  readonly quotas: Quotas;
  /** Of webhooks, by name. */
  readonly sources: ReadonlyMap<string, SourceRule>;
  /** Tables that are read, by name. */
  readonly sqlSources: ReadonlyMap<string, SqlSourceRule>;
  /** To Socket.IO fleets, by name. */
  readonly bridges: ReadonlyMap<string, BridgeRule>;
  /** Classes and services of `enqueue` routes and session events; each pair once. */
  readonly queueTargets: readonly QueueTarget[];
  /** By service: the largest batch of any route to it. */
  readonly #batches = new Map<string, number>();

  /** @param document a valid one (`checkRules`). */
  constructor(version: number, document: schema.RulesDocument) {
    this.version = version;
    this.document = document;
    const namespaces = document.namespaces ?? {};
    this.#defaultNamespace = { ...builtInNamespace, ...namespaces["default"] };
    this.#namespaces = new Map(
      Object.entries(namespaces).map(([name, own]) => [name, { ...this.#defaultNamespace, ...own }]),
    );
    this.#services = new Map(
      Object.entries(document.services ?? {}).map(([name, own]) => {
        const hooks = hookNames.filter((hook) => document.hooks?.[hook] === name);
        return [name, serviceOptions(name, own, hooks)];
      }),
    );
    this.classes = new Map(
      [[schema.defaultClass, {}] as const, ...Object.entries(document.classes ?? {})].map(([name, own]) => [
        name,
        { ...classDefaults, ...own },
      ]),
    );
    this.quotas = { ...quotaDefaults, ...document.quotas };
    const routes = document.routes ?? [];
    for (const { service, rollout, also = [], batch = 1 } of routes) {
      for (const name of [service, ...also, ...(rollout ? [rollout.to] : [])]) {
        this.#batches.set(name, Math.max(batch, this.#batches.get(name) ?? 1));
      }
    }
    this.#routes = new RouteTable(routes);
    this.queueTargets = queueTargetsOf(document);
    this.sources = new Map(Object.entries(document.sources ?? {}));
    this.sqlSources = new Map(Object.entries(document.sqlSources ?? {}));
    this.bridges = new Map(Object.entries(document.bridges ?? {}));
  }

  /** Options of a channel's namespace; an unlisted namespace has those of `default`. */
  namespace(channel: string): NamespaceOptions {
    return this.#namespaces.get(namespaceOf(channel)) ?? this.#defaultNamespace;
  }

  /** Whether the document lists the channel's namespace. */
  lists(channel: string): boolean {
    return this.#namespaces.has(namespaceOf(channel));
  }

  /** The exact route of an event, else the one with the longest prefix. */
  route(event: string): schema.RouteRule | undefined {
    return this.#routes.find(event);
  }

  /**
   * Of the event's route; an event whose route is gone has the defaults. Session events are retried until they are delivered,
   * unless their hook is gone.
   */
  queuePolicy({ event, source }: { event: string; source: string }): QueuePolicy {
    if (source === sessionSource) {
      const isWanted = sessionEventKinds.some((kind) => sessionEventType(kind) === event && this.sessionHook(kind));
      return { ...schema.retryDefaults, onFailure: isWanted ? "block" : "skip", batch: 1 };
    }
    const { retry, onFailure = "skip", batch = 1 } = this.route(event) ?? {};
    return { ...schema.retryDefaults, ...retry, onFailure, batch };
  }

  /** Items of one queue of the service that one request may carry at most. */
  largestBatch(service: string): number {
    return this.#batches.get(service) ?? 1;
  }

  service(name: string): ServiceOptions | undefined {
    return this.#services.get(name);
  }

  get services(): Iterable<ServiceOptions> {
    return this.#services.values();
  }

  /** The service that gets this event of sessions; undefined: none. */
  sessionHook(kind: SessionEventKind): string | undefined {
    return this.document.hooks?.[kind];
  }

  /** The service of the hook; undefined where the hook is off. */
  hook(name: HookName): ServiceOptions | undefined {
    const service = this.document.hooks?.[name];
    return service === undefined ? undefined : this.#services.get(service);
  }
}

export const noRules = new Rules(0, {});

function serviceOptions(name: string, rule: schema.ServiceRule, hooks: readonly HookName[]): ServiceOptions {
  return {
    name,
    url: rule.url.replace(/\/$/, ""),
    timeoutMs: rule.timeoutMs ?? serviceDefaults.timeoutMs,
    maxInFlight: rule.maxInFlight ?? serviceDefaults.maxInFlight,
    secrets: writtenSecrets(rule),
    hooks,
  };
}

function queueTargetsOf({ routes = [], hooks = {} }: schema.RulesDocument): QueueTarget[] {
  const targets = routes
    .filter(({ mode }) => mode === "enqueue")
    .flatMap(({ class: name = schema.defaultClass, service, also = [], rollout }) =>
      [service, ...also, ...(rollout ? [rollout.to] : [])].map((each) => ({ class: name, service: each })),
    );
  for (const kind of sessionEventKinds) {
    const service = hooks[kind];
    if (service !== undefined) targets.push({ class: schema.defaultClass, service });
  }
  return [...new Map(targets.map((target) => [JSON.stringify(target), target])).values()];
}
