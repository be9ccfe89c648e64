import type { Cells } from "../redis/cells.ts";
import { script } from "../redis/scripts.ts";
import { leaseMs } from "./contract.ts";
import { leaseKeys } from "./keys.ts";

/** Two passes this far apart: commands of a paused process may still arrive after the first. */
const sweepPasses = 2;
const sweepAgainMs = 30_000;
/** Holders that one sweep takes. */
const sweepHolders = 20;
/** The list of holders with a lease is reused for this long. */
const holdersMaxAgeMs = 250;

const renewScript = script<[known: 0 | 1, now: string]>(new URL("renew-lease.lua", import.meta.url), 1);
const abandonScript = script(new URL("abandon.lua", import.meta.url), 2);
const takeExpiredScript = script<string[]>(new URL("take-expired.lua", import.meta.url), 3);
const endSweepScript = script(new URL("end-sweep.lua", import.meta.url), 3);

/** The leases of holders: holders with a lease, and holders due for a sweep. */
export class RedisLeases {
  readonly #cells: Cells;
  readonly #keys: ReturnType<typeof leaseKeys>;
  #holders: { read: Promise<Set<string>>; at: number } | undefined;

  constructor(cells: Cells) {
    this.#cells = cells;
    this.#keys = leaseKeys(cells.fleet.root);
  }

  /** @returns `isKnown`: false where the lease is gone. `now`: Redis's clock, Unix ms. */
  async renew(holder: string, fresh: boolean): Promise<{ isKnown: boolean; now: number }> {
    const [known, now] = await this.#cells.fleet.run(renewScript, this.#keys.leases, holder, leaseMs, fresh ? 1 : 0);
    return { isKnown: known === 1, now: Number(now) };
  }

  async abandon(holder: string, inMs: number): Promise<void> {
    const { leases, toSweep } = this.#keys;
    await this.#cells.fleet.run(abandonScript, leases, toSweep, holder, inMs);
  }

  /**
   * Passes each holder whose lease expired to `sweep`, with the Unix ms of its last renewal, "" where it was abandoned. Holders that
   * another caller sweeps are left out.
   * @returns how many.
   */
  async sweepExpired(sweep: (holder: string, lastSeen: string) => Promise<void>): Promise<number> {
    const { fleet } = this.#cells;
    const { leases, toSweep, passes, lastSeen } = this.#keys;
    const keys = [leases, toSweep, lastSeen];
    const expired = await fleet.run(takeExpiredScript, ...keys, sweepAgainMs, sweepHolders, leaseMs);
    const failures: unknown[] = [];
    for (let at = 0; at < expired.length; at += 2) {
      const [holder = "", seen = ""] = expired.slice(at, at + 2);
      try {
        await sweep(holder, seen);
        await fleet.run(endSweepScript, toSweep, passes, lastSeen, holder, sweepPasses);
      } catch (error) {
        failures.push(error);
      }
    }
    // Those that failed are due again.
    if (failures.length > 0) throw failures[0];
    return expired.length / 2;
  }

  /** Leaves out entries of holders without a lease: they are hidden until the sweep removes them. */
  async live<Held extends { holder: string }>(held: readonly Held[]): Promise<readonly Held[]> {
    const isLive = ({ holder }: Held): boolean => holders.has(holder);
    let holders = await this.#currentHolders(holdersMaxAgeMs);
    // A holder may be newer than the list: it has a lease before it stores anything.
    if (!held.every(isLive)) holders = await this.#currentHolders(0);
    return held.filter(isLive);
  }

  async #currentHolders(maxAgeMs: number): Promise<Set<string>> {
    const now = performance.now();
    if (!this.#holders || this.#holders.at + maxAgeMs <= now) {
      const read = this.#cells.fleet
        .run<string[]>("zrange", this.#keys.leases, "0", "-1")
        .then((names) => new Set(names));
      this.#holders = { read, at: now };
      read.catch(() => (this.#holders = undefined));
    }
    return this.#holders.read;
  }
}
