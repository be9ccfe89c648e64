import type { DispatchLoad } from "../load/dispatch-load.ts";
import type { DispatcherRegistry } from "./contract.ts";

/** The dispatchers of a single process: each stays until it leaves. */
export class MemoryDispatcherRegistry implements DispatcherRegistry {
  readonly #loads = new Map<string, DispatchLoad>();

  async report(instance: string, load: DispatchLoad): Promise<void> {
    this.#loads.set(instance, load);
  }

  async leave(instance: string): Promise<void> {
    this.#loads.delete(instance);
  }

  async loads(): Promise<readonly DispatchLoad[]> {
    return [...this.#loads.values()];
  }
}
