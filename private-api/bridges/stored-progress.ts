/** The progress of a bridge while it runs, stored under its lease. */
import { randomBytes } from "node:crypto";
import { TidegateError } from "../../shared/runtime/errors.ts";
import type { BridgeRule } from "../../shared/rules/bridges.ts";
import type { ShardLease, SqlShardStore } from "../../shared/sql-sources/contract.ts";
import { LeaseEnded } from "../leases/lease-ended.ts";
import { type BridgeCounts, type BridgeProgress, noCounts, parseBridgeProgress, progressUnder } from "./progress.ts";

export interface StoredProgressOptions {
  store: Pick<SqlShardStore, "read" | "save">;
  /** Of the bridge in the store. */
  name: string;
  /** @throws LeaseEnded */
  lease: () => ShardLease;
}

export class StoredProgress {
  readonly #options: StoredProgressOptions;
  #progress: BridgeProgress | undefined;
  #isSaved = false;

  constructor(options: StoredProgressOptions) {
    this.#options = options;
  }

  /** @throws LeaseEnded; TidegateError where the store is out of reach; Error where a newer version wrote it */
  async load(terms: { rule: BridgeRule; fleetId: string }): Promise<BridgeProgress> {
    const { progress } = await this.#options.store.read(this.#options.name);
    const stored =
      progress === undefined
        ? { identity: randomBytes(8).toString("hex"), counts: noCounts }
        : parseBridgeProgress(progress);
    if (!stored) throw new Error("the stored progress is malformed: was it written by a newer version?");
    this.#progress = progressUnder(terms, stored);
    this.#isSaved = false;
    await this.save();
    return this.#progress;
  }

  /** Takes effect where it is loaded. It is stored by the next {@link save}. */
  advance(change: Partial<BridgeProgress>): void {
    if (!this.#progress) return;
    this.#progress = { ...this.#progress, ...change };
    this.#isSaved = false;
  }

  /** @returns whether it was the first cursor. */
  advanceCursor(cursor: string): boolean {
    const isFirst = this.#progress?.cursor === undefined;
    this.advance({ cursor });
    return isFirst;
  }

  count(member: keyof BridgeCounts): void {
    if (!this.#progress) return;
    const { counts } = this.#progress;
    this.advance({ counts: { ...counts, [member]: counts[member] + 1 } });
  }

  /** @throws LeaseEnded; TidegateError where the store is out of reach */
  async save(): Promise<void> {
    if (this.#isSaved) return;
    const { store, lease } = this.#options;
    const held = lease();
    this.#isSaved = true;
    try {
      if (!(await store.save(held, { progress: JSON.stringify(this.#progress) }))) throw new LeaseEnded();
    } catch (error) {
      this.#isSaved = false;
      throw error;
    }
  }

  /** For a timer: a store that is out of reach is tried again the next time. @param onEnded the lease has ended */
  async saveOrRetry(onEnded: (error: Error) => void): Promise<void> {
    try {
      await this.save();
    } catch (error) {
      if (error instanceof LeaseEnded) onEnded(error);
      else if (!(error instanceof TidegateError)) throw error;
    }
  }
}
