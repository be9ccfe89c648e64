/** What one Redis did for a piece of work, by its own statistics. */
import { Redis } from "ioredis";

export interface RedisUse {
  /** User and system time, all threads. */
  readonly cpuMs: number;
  /** Executed commands, those inside scripts included. */
  readonly commands: number;
  /** Commands that came from a client. */
  readonly roundTrips: number;
  readonly callsByCommand: Readonly<Record<string, number>>;
}

/** Commands that the scripts of queues run and their clients do not send: the statistics do not tell one from the other. */
const insideScripts = new Set([
  ...[
    "incrby",
    "get",
    "set",
    "del",
    "rpush",
    "lpush",
    "lpop",
    "lrange",
    "lindex",
    "llen",
    "ltrim",
    "hmget",
    "hget",
    "hset",
  ],
  ...["hincrby", "hdel", "zadd", "zrem", "zrange", "zscore", "zcard", "sadd", "srem", "spublish", "info", "time"],
]);

/** What scenarios ask meanwhile. */
const ownCommands = new Set(["dbsize", "flushall"]);

/** Asks one Redis. The caller stops it. */
export class RedisUseReader {
  readonly client: Redis;

  constructor(url: string) {
    this.client = new Redis(url, { protocol: 2 });
  }

  async read(): Promise<RedisUse> {
    const info = await this.client.info("all");
    const callsByCommand: Record<string, number> = {};
    for (const [, name = "", calls] of info.matchAll(/^cmdstat_([^:]+):calls=(\d+)/gm)) {
      if (!ownCommands.has(name)) callsByCommand[name] = Number(calls);
    }
    return {
      cpuMs: (field(info, "used_cpu_user") + field(info, "used_cpu_sys")) * 1_000,
      ...totals(callsByCommand),
      callsByCommand,
    };
  }

  async usedMemory(): Promise<number> {
    return field(await this.client.info("memory"), "used_memory");
  }

  stop(): void {
    this.client.disconnect();
  }
}

export function useSince(before: RedisUse, after: RedisUse): RedisUse {
  const callsByCommand = Object.fromEntries(
    Object.entries(after.callsByCommand)
      .map(([name, calls]) => [name, calls - (before.callsByCommand[name] ?? 0)] as const)
      .filter(([, calls]) => calls > 0),
  );
  return { cpuMs: after.cpuMs - before.cpuMs, ...totals(callsByCommand), callsByCommand };
}

function totals(callsByCommand: Readonly<Record<string, number>>): { commands: number; roundTrips: number } {
  const sum = (isCounted: (name: string) => boolean): number =>
    Object.entries(callsByCommand).reduce((total, [name, calls]) => total + (isCounted(name) ? calls : 0), 0);
  return { commands: sum(() => true), roundTrips: sum((name) => !insideScripts.has(name)) };
}

function field(info: string, name: string): number {
  return Number(new RegExp(`^${name}:([\\d.]+)`, "m").exec(info)?.[1]);
}
