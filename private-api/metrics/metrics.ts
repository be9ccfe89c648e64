import type { SlotFigures } from "../../shared/changes/contract.ts";
import { doorCounter } from "../../shared/http/door-counter.ts";
import type { DepthFigures, ServiceDepth } from "../../shared/queues/contract.ts";
import type { DispatchersLoad } from "../../shared/load/dispatch-load.ts";
import type { FleetLoad } from "../../shared/load/fleet-load.ts";
import type { Counters, Histogram, Metrics, Tally } from "../../shared/runtime/metrics.ts";

export interface QueueFigures {
  targets: readonly ServiceDepth[];
  deadLetters: number;
  unreachedSlots: number;
}

/** By cell. */
export interface CellFigures {
  slots: Record<string, number>;
  /** Slots on their way to the cell. */
  arriving: Record<string, number>;
  up: Record<string, number>;
}

/** Metric name, help text, labels. */
const counters = {
  ...doorCounter,
  publishes: ["publishes_total", "Publishes, by outcome or error code", "outcome"],
  unlistedNamespaces: ["publishes_unlisted_namespace_total", "Publishes to namespaces that the rules do not list"],
  upstreamAnswers: [
    "upstream_answers_total",
    "Requests to services of the rules, by outcome",
    ...(["service", "outcome"] as const),
  ],
  queueStoreFailures: [
    "queue_store_failures_total",
    "Requests of the dispatcher to Redis that failed, one for each hash slot that they were about",
  ],
  sessionEvents: [
    "session_events_total",
    "Session events stored for their service: connected or disconnected",
    "event",
  ],
  sqlRows: [
    "sql_rows_total",
    "Rows of SQL sources: published, duplicate (published before a crash), skipped (no valid channel, event or data)",
    ...(["source", "outcome"] as const),
  ],
  bridgeMessages: [
    "bridge_messages_total",
    "Messages of bridges. In: published, ephemeral, refused (no valid publication), dropped (lost at the bridge). Out: emitted, gap (had left the change log)",
    ...(["bridge", "direction", "outcome"] as const),
  ],
  shadows: ["shadow_total", "Requests also sent to a shadow: same, different, failed or skipped", "outcome"],
} as const;

/** Of a shard that this process reads. */
export interface SqlShardFigures {
  source: string;
  status: { state: string; lagMs: number };
}

/** Of a bridge that this process runs. */
export interface BridgeFigures {
  bridge: string;
  status: { state: string; lagMs: number };
}

export interface PrivateApiMetrics extends Counters<typeof counters> {
  /** The tally of deliveries with these labels. */
  deliveries: (labels: Readonly<Record<"class" | "service" | "outcome", string>>) => Tally;
  cellPause: Histogram;
  upstreamSeconds: Histogram;
  /**
   * Adds gauges, read at each scrape.
   * @param reads.fleet undefined: unknown at present.
   */
  observe(reads: {
    relayStreams: () => number;
    /** By service of the rules: 1 while its circuit is open, else 0. */
    circuits: () => Record<string, number>;
    fleet: () => Promise<FleetLoad | undefined>;
    dispatchers: () => Promise<(DispatchersLoad & { count: number }) | undefined>;
    queues: () => Promise<QueueFigures | undefined>;
    cells: () => CellFigures;
    changes: () => Promise<readonly SlotFigures[] | undefined>;
    pullsWaiting: () => number;
    sqlShards: () => readonly SqlShardFigures[];
    bridges: () => readonly BridgeFigures[];
  }): void;
}

export function createPrivateApiMetrics(metrics: Metrics): PrivateApiMetrics {
  return {
    observe: ({
      relayStreams,
      circuits,
      fleet,
      dispatchers,
      queues,
      cells,
      changes,
      pullsWaiting,
      sqlShards,
      bridges,
    }) => {
      const byTarget = (name: string, help: string, figure: keyof DepthFigures, part = 1): void =>
        metrics.labelledGauges(name, help, ["class", "service"], async () =>
          ((await queues())?.targets ?? []).map((target) => ({
            labels: { class: target.class, service: target.service },
            value: target[figure] * part,
          })),
        );
      byTarget(
        "queue_items_waiting",
        "Queued items that wait, of the fleet; of a class's services, by a sample",
        "waiting",
      );
      byTarget("queue_items_in_flight", "Queued items under delivery, of the fleet", "inFlight");
      byTarget("queue_oldest_seconds", "Age of the oldest item, of a sample", "oldestMs", 1e-3);
      metrics.gauge(
        "queue_unreached_slots",
        "Hash slots whose queues could not be counted",
        async () => (await queues())?.unreachedSlots,
      );
      metrics.gauge("queue_dead_letters", "Items that failed and are kept", async () => (await queues())?.deadLetters);
      metrics.gauges("cell_slots", "Slots that the cell owns", "cell", () => cells().slots);
      metrics.gauges("cell_slots_arriving", "Slots that are to move to the cell", "cell", () => cells().arriving);
      metrics.gauges("cell_up", "1 while this process can use the cell fully", "cell", () => cells().up);
      metrics.gauge("changes_bytes", "Bytes of the change log (SPEC, CHG-3)", async () => {
        return (await changes())?.reduce((sum, { bytes }) => sum + bytes, 0);
      });
      metrics.gauge("changes", "Changes in the change log", async () => {
        return (await changes())?.reduce((sum, figures) => sum + figures.changes, 0);
      });
      metrics.gauge("changes_oldest_seconds", "Age of the oldest change in the change log", async () => {
        const now = Date.now();
        return (await changes())?.reduce((most, { oldestAt = now }) => Math.max(most, (now - oldestAt) / 1000), 0);
      });
      metrics.gauge("change_pulls_waiting", "Pulls of this process that wait for a change", pullsWaiting);
      metrics.labelledGauges(
        "sql_shards",
        "Shards of SQL sources that this process reads, by state: live, failing or refused",
        ["source", "state"],
        async () => [...shardsByState(sqlShards())],
      );
      metrics.gauges(
        "sql_lag_seconds",
        "For how long rows may have been visible and not published, of the slowest shard that this process reads",
        "source",
        () => slowestLags(sqlShards()),
      );
      metrics.gauges("bridge_up", "1 while the bridge that this process runs is live, else 0", "bridge", () =>
        Object.fromEntries(bridges().map(({ bridge, status }) => [bridge, Number(status.state === "live")])),
      );
      metrics.gauges(
        "bridge_lag_seconds",
        "For how long publications may have waited to be emitted, of bridges that this process runs",
        "bridge",
        () => Object.fromEntries(bridges().map(({ bridge, status }) => [bridge, status.lagMs / 1_000])),
      );
      metrics.gauge("relay_streams", "Open relay streams of gateways", relayStreams);
      metrics.gauges("circuit_open", "1 while the service fails and is only probed", "service", circuits);
      metrics.gauge("fleet_nodes", "Gateways that report", async () => (await fleet())?.nodes);
      metrics.gauge("fleet_desired_nodes", "Gateways the fleet needs, one spare included", async () => {
        return (await fleet())?.desiredNodes;
      });
      metrics.gauge("dispatchers", "Dispatchers that report", async () => (await dispatchers())?.count);
      metrics.gauge("dispatchers_desired", "Dispatchers the queues need", async () => (await dispatchers())?.desired);
      metrics.gauge("dispatchers_load_factor", "Load factor of all dispatchers: 1.0 is at target", async () => {
        return (await dispatchers())?.factor;
      });
      metrics.gauges("fleet_load_factor", "Load factors of all gateways: 1.0 is at target", "stat", async () => {
        const load = await fleet();
        return load && load.nodes > 0 ? { mean: load.mean, max: load.max } : {};
      });
    },
    ...metrics.counters(counters),
    deliveries: metrics.tallies(
      "queue_deliveries_total",
      "Deliveries of queued items: done, retried, postponed (no attempt used up), failed, stale (the lease had ended)",
      ["class", "service", "outcome"],
    ),
    cellPause: metrics.histogram("cell_pause_seconds", "Pauses of slots that moved to another cell"),
    upstreamSeconds: metrics.histogram("upstream_seconds", "Requests to services, including the wait for a free place"),
  };
}

function* shardsByState(
  shards: readonly SqlShardFigures[],
): Iterable<{ labels: Record<"source" | "state", string>; value: number }> {
  for (const [source, ofSource] of Map.groupBy(shards, (shard) => shard.source)) {
    for (const [state, { length }] of Map.groupBy(ofSource, ({ status }) => status.state)) {
      yield { labels: { source, state }, value: length };
    }
  }
}

/** By source, in seconds. */
function slowestLags(shards: readonly SqlShardFigures[]): Record<string, number> {
  const lags = [...Map.groupBy(shards, ({ source }) => source)].map(([source, ofSource]) => [
    source,
    Math.max(...ofSource.map(({ status }) => status.lagMs)) / 1_000,
  ]);
  return Object.fromEntries(lags) as Record<string, number>;
}
