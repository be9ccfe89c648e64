import { randomUUID } from "node:crypto";
import type { RedisConnections } from "../redis/connections.ts";
import { script } from "../redis/scripts.ts";
import { moverKeys } from "./keys.ts";

const takeScript = script<0 | 1>(new URL("take-lease.lua", import.meta.url), 1);
const giveUpScript = script<0 | 1>(new URL("give-up-lease.lua", import.meta.url), 1);
/** A mover that was killed is followed by another one after this. */
const moverLeaseMs = 5_000;

/**
 * Keeps several processes from moving slots at once. Two that do all the same harm nothing: each step compares the version of the
 * map, and an attempt to copy ends the one before.
 */
export class MoverLease {
  readonly #fleet: RedisConnections;
  readonly #instance = randomUUID();

  constructor(fleet: RedisConnections) {
    this.#fleet = fleet;
  }

  /** Takes or renews it. @returns false: another process has it. */
  async take(): Promise<boolean> {
    const { lease } = moverKeys(this.#fleet.root);
    return (await this.#fleet.run(takeScript, lease, this.#instance, moverLeaseMs)) === 1;
  }

  async giveUp(): Promise<void> {
    const { lease } = moverKeys(this.#fleet.root);
    await this.#fleet.run(giveUpScript, lease, this.#instance);
  }
}
