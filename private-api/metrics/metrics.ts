import { createDoorCounter, type DoorCounter } from "../../shared/http/door-counter.ts";
import type { FleetLoad } from "../../shared/load/fleet-load.ts";
import type { Counter, Histogram, Metrics } from "../../shared/runtime/metrics.ts";

export interface PrivateApiMetrics {
  publishes: Counter<"outcome">;
  upstreamAnswers: Counter<"outcome">;
  upstreamSeconds: Histogram;
  shadows: Counter<"outcome">;
  doorClosed: DoorCounter;
}

/** Reads that are made when the metrics are scraped. */
export interface PrivateApiReads {
  relayStreams: () => number;
  /** Undefined: not known now. */
  fleet: () => Promise<FleetLoad | undefined>;
}

export function createPrivateApiMetrics(metrics: Metrics, reads: PrivateApiReads): PrivateApiMetrics {
  metrics.gauge("relay_streams", "Open streams of gateways", reads.relayStreams);
  metrics.gauge("fleet_nodes", "Gateways that report", async () => (await reads.fleet())?.nodes);
  metrics.gauge("fleet_desired_nodes", "Gateways that the work wants, one to lose included", async () => {
    return (await reads.fleet())?.desiredNodes;
  });
  metrics.gauges("fleet_load_factor", "Load factors of all gateways: 1.0 is at target", "stat", async () => {
    const fleet = await reads.fleet();
    return fleet && fleet.nodes > 0 ? { mean: fleet.mean, max: fleet.max } : {};
  });
  return {
    publishes: metrics.counter("publishes_total", "Publishes, by outcome or error code", ["outcome"]),
    upstreamAnswers: metrics.counter("upstream_answers_total", "Requests to services, by what came of them", [
      "outcome",
    ]),
    shadows: metrics.counter(
      "shadow_total",
      "Requests sent to a shadow too: its answer was the same, different, or failed; or it was skipped",
      ["outcome"],
    ),
    doorClosed: createDoorCounter(metrics),
    upstreamSeconds: metrics.histogram("upstream_seconds", "Requests to services, waiting for a place included"),
  };
}
