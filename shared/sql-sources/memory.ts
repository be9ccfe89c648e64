import { readerLeaseMs } from "../changes/contract.ts";
import type * as contract from "./contract.ts";

interface KeptShard {
  record: contract.ShardRecord;
  reader: { holder: string; fence: number; until: number } | undefined;
}

/** The progress of SQL sources in a single process, lost when it ends. */
export class MemorySqlShardStore implements contract.SqlShardStore {
  readonly #shards = new Map<string, KeptShard>();
  readonly #leaseMs: number;
  #fence = 0;

  /** @param options.leaseMs shorter than the default in tests */
  constructor(options: { leaseMs?: number } = {}) {
    this.#leaseMs = options.leaseMs ?? readerLeaseMs;
  }

  async takeLeases(shards: readonly string[], holder: string): Promise<readonly contract.ShardLease[]> {
    return shards.flatMap((shard) => {
      const kept = this.#shards.get(shard) ?? { record: {}, reader: undefined };
      this.#shards.set(shard, kept);
      if (kept.reader && kept.reader.holder !== holder && kept.reader.until > performance.now()) return [];
      kept.reader = { holder, fence: ++this.#fence, until: performance.now() + this.#leaseMs };
      return [{ shard, fence: kept.reader.fence }];
    });
  }

  async extendLeases(leases: readonly contract.ShardLease[]): Promise<readonly boolean[]> {
    return leases.map((lease) => this.#extend(lease, this.#leaseMs));
  }

  async releaseLeases(leases: readonly contract.ShardLease[]): Promise<void> {
    for (const lease of leases) this.#extend(lease, 0);
  }

  async read(shard: string): Promise<contract.StoredShard> {
    const { record, reader } = this.#shards.get(shard) ?? { record: {}, reader: undefined };
    return { ...record, isRead: reader !== undefined && reader.until > performance.now() };
  }

  async save(lease: contract.ShardLease, record: contract.ShardRecord): Promise<boolean> {
    const kept = this.#held(lease);
    if (kept) kept.record = { ...kept.record, ...record };
    return kept !== undefined;
  }

  /** Undefined where the lease has ended. */
  #held({ shard, fence }: contract.ShardLease): KeptShard | undefined {
    const kept = this.#shards.get(shard);
    return kept?.reader?.fence === fence && kept.reader.until > performance.now() ? kept : undefined;
  }

  #extend(lease: contract.ShardLease, leaseMs: number): boolean {
    const reader = this.#held(lease)?.reader;
    if (!reader) return false;
    reader.until = performance.now() + leaseMs;
    return true;
  }
}
