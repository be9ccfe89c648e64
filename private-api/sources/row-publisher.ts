/** Publishes rows as a service would publish them, each once: the store keeps the mark of the last row beside it. */
import type { ChangeBudget } from "../../shared/changes/budget.ts";
import type { ChannelBroker } from "../../shared/channels/contract.ts";
import { slotOf } from "../../shared/redis/slots.ts";
import type { CurrentRules } from "../../shared/rules/current-rules.ts";
import type { Rules } from "../../shared/rules/rules.ts";
import type { Logger } from "../../shared/runtime/logging.ts";
import { Turns } from "../../shared/runtime/timing.ts";
import { keptOf } from "../changes/kept-of.ts";
import { namespaceRefusal } from "../changes/namespace-refusal.ts";
import type { PrivateApiMetrics } from "../metrics/metrics.ts";
import type { Row } from "./contract.ts";
import { markOf } from "./progress.ts";
import { type Mapped, mapRow, type MappingRule } from "./row-mapping.ts";

/** Shortest time between two log lines about skipped rows of one source. */
const logEveryMs = 60_000;

export interface RowBatch {
  source: string;
  /** `source/VARIABLE` */
  shard: string;
  /** Of the page that the rows belong to. */
  pageNumber: string;
  mapping: MappingRule;
  /** By id. */
  rows: readonly Row[];
}

export class RowPublisher {
  readonly #broker: Pick<ChannelBroker, "publish">;
  readonly #rules: Pick<CurrentRules, "rules">;
  readonly #changeBudget: Pick<ChangeBudget, "retention">;
  readonly #metrics: Pick<PrivateApiMetrics, "sqlRows" | "unlistedNamespaces">;
  readonly #logger: Logger;
  /** By source, by `performance.now()`. */
  readonly #skipLoggedAt = new Map<string, number>();

  constructor(options: {
    broker: Pick<ChannelBroker, "publish">;
    rules: Pick<CurrentRules, "rules">;
    changeBudget: Pick<ChangeBudget, "retention">;
    metrics: Pick<PrivateApiMetrics, "sqlRows" | "unlistedNamespaces">;
    logger: Logger;
  }) {
    this.#broker = options.broker;
    this.#rules = options.rules;
    this.#changeBudget = options.changeBudget;
    this.#metrics = options.metrics;
    this.#logger = options.logger;
  }

  /**
   * Resolves once all rows are stored. Where it rejects, some are; publishing the same rows again publishes the others.
   * @throws TidegateError `broker_unavailable`
   */
  async publish({
    source,
    shard,
    pageNumber,
    mapping,
    rows,
  }: RowBatch): Promise<{ published: number; skipped: number }> {
    const lastMarks = new Map<number, string>();
    const publications: Promise<unknown>[] = [];
    const turns = new Turns();
    const { rules } = this.#rules;
    for (const row of rows) {
      await turns.pause();
      const mapped = this.#map(mapping, row, rules);
      if (mapped.kind === "skipped") {
        this.#skip({ source, shard, id: row.id, reason: mapped.reason });
        continue;
      }
      const { channel, event, data } = mapped;
      const slot = slotOf(channel);
      const at = markOf(pageNumber, row.id);
      const mark = { name: shard, at, before: lastMarks.get(slot) ?? "" };
      lastMarks.set(slot, at);
      const kept = keptOf(channel, data.bytes, { rules, changeBudget: this.#changeBudget });
      // Not awaited: the broker sends what it gets in one turn together, in order. A failure is kept until all have ended.
      const request = { channel, event, data: data.text, mark, row: { shard, id: row.id }, ...kept };
      publications.push(this.#publish(source, request).catch((error: unknown) => error));
    }
    const failure = (await Promise.all(publications)).find((outcome) => outcome !== undefined);
    if (failure !== undefined) throw failure as Error;
    return { published: publications.length, skipped: rows.length - publications.length };
  }

  #map(mapping: MappingRule, row: Row, rules: Rules): Mapped {
    const mapped = mapRow(mapping, row);
    if (mapped.kind === "skipped") return mapped;
    const reason = namespaceRefusal(mapped.channel, { rules, metrics: this.#metrics });
    return reason === undefined ? mapped : { kind: "skipped", reason };
  }

  async #publish(source: string, request: Parameters<ChannelBroker["publish"]>[0]): Promise<void> {
    const outcome = await this.#broker.publish(request);
    const isRepeat = outcome.kind === "published" && outcome.duplicate;
    this.#metrics.sqlRows.inc({ source, outcome: isRepeat ? "duplicate" : "published" });
  }

  #skip(skipped: { source: string; shard: string; id: string; reason: string }): void {
    const { source } = skipped;
    this.#metrics.sqlRows.inc({ source, outcome: "skipped" });
    const now = performance.now();
    if (now - (this.#skipLoggedAt.get(source) ?? -Infinity) < logEveryMs) return;
    this.#skipLoggedAt.set(source, now);
    this.#logger.warn(skipped, "a row of a SQL source is skipped; others of the source are not logged for a minute");
  }
}
