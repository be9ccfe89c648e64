import { TidegateError } from "../shared/runtime/errors.ts";
import { fleetLoad, type FleetLoad } from "../shared/load/fleet-load.ts";
import type { NodeRegistry } from "../shared/nodes/contract.ts";

/** Shared by all metrics of one scrape. */
const maxAgeMs = 500;

/** Reads the fleet's load for the metrics; undefined while the registry is away: no number is better than an old one. */
export function createFleetReading(registry: NodeRegistry): () => Promise<FleetLoad | undefined> {
  let last: { reading: Promise<FleetLoad | undefined>; at: number } | undefined;

  async function read(): Promise<FleetLoad | undefined> {
    try {
      return fleetLoad(await registry.nodes());
    } catch (error) {
      if (error instanceof TidegateError) return undefined;
      throw error;
    }
  }

  return () => {
    const now = performance.now();
    if (!last || now - last.at >= maxAgeMs) last = { reading: read(), at: now };
    return last.reading;
  };
}
