import { createDoorCounter, type DoorCounter } from "../../shared/http/door-counter.ts";
import type { FleetLoad } from "../../shared/load/fleet-load.ts";
import type { Counter, Histogram, Metrics } from "../../shared/runtime/metrics.ts";

export interface PrivateApiMetrics {
  publishes: Counter<"outcome">;
  upstreamAnswers: Counter<"outcome">;
  upstreamSeconds: Histogram;
  /** By class and what came of it. */
  deliveries: Counter<"class" | "service" | "outcome">;
  shadows: Counter<"outcome">;
  doorClosed: DoorCounter;
  /**
   * Adds gauges, read at each scrape.
   * @param reads.fleet undefined: unknown at present.
   */
  observe(reads: { relayStreams: () => number; fleet: () => Promise<FleetLoad | undefined> }): void;
}

export function createPrivateApiMetrics(metrics: Metrics): PrivateApiMetrics {
  return {
    observe: ({ relayStreams, fleet }) => {
      metrics.gauge("relay_streams", "Open relay streams of gateways", relayStreams);
      metrics.gauge("fleet_nodes", "Gateways that report", async () => (await fleet())?.nodes);
      metrics.gauge("fleet_desired_nodes", "Gateways the fleet needs, one spare included", async () => {
        return (await fleet())?.desiredNodes;
      });
      metrics.gauges("fleet_load_factor", "Load factors of all gateways: 1.0 is at target", "stat", async () => {
        const load = await fleet();
        return load && load.nodes > 0 ? { mean: load.mean, max: load.max } : {};
      });
    },
    publishes: metrics.counter("publishes_total", "Publishes, by outcome or error code", ["outcome"]),
    upstreamAnswers: metrics.counter("upstream_answers_total", "Requests to services, by outcome", ["outcome"]),
    deliveries: metrics.counter(
      "queue_deliveries_total",
      "Deliveries of queued items: done, retried, postponed (no attempt used up), failed, stale (the lease had ended)",
      ["class", "service", "outcome"],
    ),
    shadows: metrics.counter("shadow_total", "Requests also sent to a shadow: same, different, failed or skipped", [
      "outcome",
    ]),
    doorClosed: createDoorCounter(metrics),
    upstreamSeconds: metrics.histogram("upstream_seconds", "Requests to services, including the wait for a free place"),
  };
}
