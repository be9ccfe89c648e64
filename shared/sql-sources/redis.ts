import { readerLeaseMs } from "../changes/contract.ts";
import { extendLeasesScript, takeLeasesScript } from "../changes/lease-scripts.ts";
import type { Cells } from "../redis/cells.ts";
import { script } from "../redis/scripts.ts";
import { TidegateError } from "../runtime/errors.ts";
import type * as contract from "./contract.ts";
import { shardKeys } from "./keys.ts";

type ReadReply = [progress: string, status: string, isRead: 0 | 1];

const saveScript = script<0 | 1>(new URL("save-shard.lua", import.meta.url), 2);
const readScript = script<ReadReply>(new URL("read-shard.lua", import.meta.url), 2);

/** The progress of SQL sources on Redis: standalone, Sentinel, Cluster, or several cells. A shard belongs to the slot of its name. */
export class RedisSqlShardStore implements contract.SqlShardStore {
  readonly #cells: Cells;
  readonly #leaseMs: number;
  /** A call that was cut off from its reply may arrive late: it must not replace what a later one saved. */
  #saves = 0;

  /** @param options.leaseMs shorter than the default in tests */
  constructor(cells: Cells, options: { leaseMs?: number } = {}) {
    this.#cells = cells;
    this.#leaseMs = options.leaseMs ?? readerLeaseMs;
  }

  async takeLeases(shards: readonly string[], holder: string): Promise<readonly contract.ShardLease[]> {
    const fences = await Promise.all(shards.map(async (shard) => unlessUnreached(this.#take(shard, holder))));
    return shards.flatMap((shard, index) => (fences[index] ? [{ shard, fence: fences[index] }] : []));
  }

  async extendLeases(leases: readonly contract.ShardLease[]): Promise<readonly (boolean | undefined)[]> {
    return Promise.all(leases.map(async (lease) => unlessUnreached(this.#extend(lease, this.#leaseMs))));
  }

  async releaseLeases(leases: readonly contract.ShardLease[]): Promise<void> {
    await Promise.all(leases.map(async (lease) => this.#extend(lease, 0)));
  }

  async read(shard: string): Promise<contract.StoredShard> {
    const cell = this.#cells.of(shard);
    const [progress, status, isRead] = await cell.run(readScript, ...shardKeys(cell.root, shard));
    return { ...(progress !== "" && { progress }), ...(status !== "" && { status }), isRead: isRead === 1 };
  }

  async save({ shard, fence }: contract.ShardLease, record: contract.ShardRecord): Promise<boolean> {
    const cell = this.#cells.of(shard);
    const values = [fence, ++this.#saves, ...Object.entries(record).flat()];
    return (await cell.run(saveScript, ...shardKeys(cell.root, shard), ...values)) === 1;
  }

  async #extend({ shard, fence }: contract.ShardLease, leaseMs: number): Promise<boolean> {
    const cell = this.#cells.of(shard);
    const [key, none] = shardKeys(cell.root, shard);
    const [held] = await cell.run(extendLeasesScript, key, none, leaseMs, key, fence);
    return held === 1;
  }

  /** @returns the fencing token, or 0. */
  async #take(shard: string, holder: string): Promise<number> {
    const cell = this.#cells.of(shard);
    const [key, none] = shardKeys(cell.root, shard);
    const [fence = 0] = await cell.run(takeLeasesScript, key, none, holder, this.#leaseMs, key);
    return fence;
  }
}

/** Undefined where the shard's Redis is out of reach. */
async function unlessUnreached<Reply>(reply: Promise<Reply>): Promise<Reply | undefined> {
  try {
    return await reply;
  } catch (error) {
    if (error instanceof TidegateError) return undefined;
    throw error;
  }
}
