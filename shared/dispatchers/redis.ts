import type { DispatchLoad } from "../load/dispatch-load.ts";
import type { Cells } from "../redis/cells.ts";
import { script } from "../redis/scripts.ts";
import { type DispatcherRegistry, reportLastsMs } from "./contract.ts";
import { dispatchersKey } from "./keys.ts";

export const reportScript = script(new URL("report-load.lua", import.meta.url), 1);
export const readScript = script<[now: string, reports: string[]]>(new URL("read-loads.lua", import.meta.url), 1);

/** The dispatchers of a fleet, by the clock of Redis. */
export class RedisDispatcherRegistry implements DispatcherRegistry {
  readonly #cells: Cells;
  readonly #key: string;

  constructor(cells: Cells) {
    this.#cells = cells;
    this.#key = dispatchersKey(cells.fleet.root);
  }

  async report(instance: string, load: DispatchLoad): Promise<void> {
    const text = [load.busy.toFixed(3), load.oldestMs.toFixed(), load.growth.toFixed(3)].join(" ");
    await this.#cells.fleet.run(reportScript, this.#key, instance, text, reportLastsMs);
  }

  async leave(instance: string): Promise<void> {
    await this.#cells.fleet.run("hdel", this.#key, instance);
  }

  async loads(): Promise<readonly DispatchLoad[]> {
    const [now, reports] = await this.#cells.fleet.run(readScript, this.#key);
    return reports.flatMap((report) => {
      const [heard = 0, busy = 0, oldestMs = 0, growth = 0] = report.split(" ").map(Number);
      return heard <= Number(now) - reportLastsMs ? [] : [{ busy, oldestMs, growth }];
    });
  }
}
