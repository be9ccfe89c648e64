/**
 * The contract between dispatchers and the registry in which each reports its load about once a second. A dispatcher without a
 * report for {@link reportLastsMs} is gone. Memory and Redis pass the same suite.
 */
import type { DispatchLoad } from "../load/dispatch-load.ts";

export interface DispatcherRegistry {
  /** @param instance unique per process. @throws TidegateError `broker_unavailable` */
  report(instance: string, load: DispatchLoad): Promise<void>;
  /** Call when the dispatcher stops. */
  leave(instance: string): Promise<void>;
  /** Of all dispatchers that are not gone. */
  loads(): Promise<readonly DispatchLoad[]>;
}

export const reportLastsMs = 5_000;
