/**
 * The contract between readers of SQL sources and the store of their progress. A shard is one database of a source. Memory and Redis
 * pass the same suite (test/contract/sql-shards.test.ts).
 *
 * Every implementation MUST
 * - give the lease on a shard to one holder at a time, with a fencing token that grows with each lease;
 * - refuse to save under a lease that has ended;
 * - never replace what a later call saved, also where a call whose reply was lost arrives late.
 */

/** The right to read a shard, until {@link readerLeaseMs} (shared/changes) after it was taken or extended. */
export interface ShardLease {
  /** `source/VARIABLE` */
  readonly shard: string;
  /** The fencing token. */
  readonly fence: number;
}

/** Both texts are opaque to the store. */
export interface ShardRecord {
  /** How far the shard is read; see private-api/sources/progress.ts. */
  readonly progress?: string;
  /** What its reader reports; see private-api/sources/shard-status.ts. */
  readonly status?: string;
}

export interface StoredShard extends ShardRecord {
  /** A reader holds the lease. */
  readonly isRead: boolean;
}

/** Calls fail with TidegateError `broker_unavailable`, within a bounded time, where the store is out of reach. */
export interface SqlShardStore {
  /** Takes shards that nobody holds, or this holder does, or whose lease has expired; those that cannot be reached are left out. */
  takeLeases(shards: readonly string[], holder: string): Promise<readonly ShardLease[]>;
  /** @returns for each whether it is still held; undefined: it cannot be reached. */
  extendLeases(leases: readonly ShardLease[]): Promise<readonly (boolean | undefined)[]>;
  /** So that another process takes the shards at once. */
  releaseLeases(leases: readonly ShardLease[]): Promise<void>;
  read(shard: string): Promise<StoredShard>;
  /** Replaces the given members. @returns false where the lease has ended: nothing is saved then. */
  save(lease: ShardLease, record: ShardRecord): Promise<boolean>;
}
