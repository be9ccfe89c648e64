/** The sources of the rules in force, with their secrets. */
import type { KeyObject } from "node:crypto";
import { parsePointer, type PointerPath } from "../../shared/json/json-pointer.ts";
import { defaultClass, type RouteRule } from "../../shared/rules/schema.ts";
import type { Rules } from "../../shared/rules/rules.ts";
import { defaultAnswer, type SourceRule } from "../../shared/rules/sources.ts";
import { TidegateError } from "../../shared/runtime/errors.ts";
import type { Logger } from "../../shared/runtime/logging.ts";
import type { Environment } from "../../shared/runtime/settings.ts";
import { hookSource } from "../../shared/services/cloudevents.ts";
import type { Identity } from "../../shared/services/identity-token.ts";
import { parseSelector, type Selector } from "./selectors.ts";
import type { Scheme, SignedRequest } from "./verify/scheme.ts";
import { schemeOf } from "./verify/scheme-of.ts";

/** An operator has to set a variable and start the gateway again. */
const missingSecretRetryMs = 30_000;
const variablePrefix = "env:";

export interface Source {
  readonly name: string;
  readonly rule: SourceRule;
  readonly route: RouteRule;
  readonly class: string;
  readonly answer: number;
  /** Undefined: the key is the source. */
  readonly key: Selector | undefined;
  readonly id: Selector | undefined;
  readonly tenant: Selector | undefined;
  readonly split: readonly PointerPath[];
  /** Something in the body decides on the event. */
  readonly readsBody: boolean;
  readonly scheme: Scheme;
  /** No user sends a webhook: the source stands in the place of user and session. */
  readonly identity: Identity;
  readonly keys: readonly KeyObject[];
  /** Secrets that the environment does not have, or not in the form that the scheme needs: what to change, for the log. */
  readonly flaws: readonly string[];
  readonly verifyToken: string | undefined;
}

/** Prepares each source once per version of the rules. */
export class Sources {
  readonly #environment: Environment;
  readonly #hasJournal: boolean;
  readonly #logger: Logger;
  #sources: ReadonlyMap<string, Source> = new Map();

  /** @param options.hasJournal whether the node has a journal for sources that ask for one */
  constructor(options: { environment: Environment; hasJournal: boolean; logger: Logger }) {
    this.#environment = options.environment;
    this.#hasJournal = options.hasJournal;
    this.#logger = options.logger;
  }

  /** Call with each version of the rules before it is in force. */
  use(rules: Rules): void {
    const sources = [...rules.sources].flatMap(([name, rule]) => {
      const route = rules.route(rule.route);
      return route ? [[name, this.#prepare(name, rule, route)] as const] : [];
    });
    this.#sources = new Map(sources);
    const { flaws, unjournaled } = this;
    const padded = this.#paddedVariables(rules);
    if (padded.length > 0) {
      this.#logger.warn(
        { variables: padded },
        "secrets of webhook sources begin or end with white space, which signs, too",
      );
    }
    if (flaws.length > 0) {
      this.#logger.warn(
        { flaws },
        "secrets of webhook sources are missing: set the variables and start the gateway again",
      );
    }
    if (unjournaled.length > 0) {
      this.#logger.warn(
        { sources: unjournaled },
        "these sources have journal: true, and this node has no journal: set JOURNAL_DIR and start the gateway again",
      );
    }
  }

  /** No provider gives such a secret; a file that a variable was set from often ends in a line break. */
  #paddedVariables({ sources }: Rules): readonly string[] {
    const written = [...sources.values()].flatMap(({ secrets = [], verifyToken = [] }) => secrets.concat(verifyToken));
    const variables = new Set(written.map((text) => text.slice(variablePrefix.length)));
    return [...variables].filter((name) => this.#environment[name] !== this.#environment[name]?.trim());
  }

  /** What keeps sources from checking every webhook. */
  get flaws(): readonly string[] {
    return [...this.#sources.values()].flatMap(({ flaws }) => flaws);
  }

  /** Sources that ask for a journal where there is none. */
  get unjournaled(): readonly string[] {
    if (this.#hasJournal) return [];
    return [...this.#sources.values()].filter(({ rule }) => rule.journal).map(({ name }) => name);
  }

  get count(): number {
    return this.#sources.size;
  }

  find(name: string): Source | undefined {
    return this.#sources.get(name);
  }

  #prepare(name: string, rule: SourceRule, route: RouteRule): Source {
    const scheme = schemeOf(rule);
    const flaws: string[] = [];
    const textOf = (written: string): string | undefined => {
      const variable = written.slice(variablePrefix.length);
      const text = this.#environment[variable];
      if (text) return text;
      flaws.push(`sources.${name}: the environment variable ${variable} is not set`);
      return undefined;
    };
    const keys = (rule.secrets ?? []).flatMap((written) => {
      const text = textOf(written);
      const key = text === undefined ? undefined : scheme.keyOf(text);
      if (text !== undefined && !key) flaws.push(`sources.${name}: ${written} is no secret for ${rule.verify}`);
      return key ?? [];
    });
    const verifyToken = rule.verifyToken === undefined ? undefined : textOf(rule.verifyToken);
    const key = optionalSelector(rule.key ?? (route.key === undefined ? undefined : `body:${route.key}`));
    const [id, tenant] = [optionalSelector(rule.id), optionalSelector(rule.tenant)];
    const split = (rule.split ?? []).map(parsePointer);
    const ce = hookSource(name);
    return {
      identity: { user: ce, sessionId: ce, claims: {} },
      ...{ name, rule, route, scheme, keys, flaws, verifyToken, key, id, tenant, split },
      class: rule.class ?? route.class ?? defaultClass,
      answer: rule.answer ?? defaultAnswer,
      readsBody: split.length > 0 || [key, id, tenant].some((selector) => selector?.from === "body"),
    };
  }
}

function optionalSelector(text: string | undefined): Selector | undefined {
  return text === undefined ? undefined : parseSelector(text);
}

/** @throws TidegateError 503 where the source has no secret at all: no webhook of it can be checked. */
export function assertCheckable({ name, rule, keys }: Source): void {
  if (rule.secrets && keys.length === 0) throw missingSecret(name);
}

/** @throws TidegateError `bad_signature`; 503 where a secret is missing that may have signed the webhook. */
export function assertGenuine(source: Source, request: SignedRequest): void {
  const refusal = source.scheme.refusal(request, source.keys);
  if (refusal === undefined) return;
  if (source.keys.length < (source.rule.secrets?.length ?? 0)) throw missingSecret(source.name);
  throw new TidegateError("bad_signature", refusal);
}

export function missingSecret(source: string): TidegateError {
  return new TidegateError("upstream_unavailable", `the gateway lacks a secret of the source ${source}`, {
    retryAfterMs: missingSecretRetryMs,
  });
}
