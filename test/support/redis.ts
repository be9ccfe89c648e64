/** Real redis-server processes, without persistence unless asked for; each in a folder of its own. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { RedisTarget } from "../../shared/redis/connect.ts";
import { freePort, type Spawned, spawnProcess } from "./processes.ts";

export interface RedisServer {
  readonly port: number;
  readonly url: string;
  /** SIGKILL; data in the append-only file, if it has one, stays. */
  kill(): Promise<void>;
  /** On the same port and folder. */
  restart(): Promise<void>;
  /** SIGSTOP and SIGCONT, for a server that hangs. */
  signal(signal: NodeJS.Signals): void;
  stop(): Promise<void>;
}

export async function startRedis(options: { appendOnly?: boolean; cluster?: boolean } = {}): Promise<RedisServer> {
  const folder = await mkdtemp(join(tmpdir(), "tidegate-redis-"));
  const port = await freePort();
  const args = ["--port", String(port), "--bind", "127.0.0.1", "--dir", folder, "--save", ""];
  args.push("--appendonly", options.appendOnly ? "yes" : "no");
  if (options.cluster) args.push("--cluster-enabled", "yes", "--cluster-node-timeout", "2000");
  let server: Spawned;

  async function start(): Promise<void> {
    server = spawnProcess("redis-server", args);
    await server.printed("Ready to accept connections");
  }
  async function kill(): Promise<void> {
    server.kill("SIGKILL");
    await server.exited;
  }
  await start();
  return {
    port,
    url: `redis://127.0.0.1:${port}`,
    kill,
    restart: start,
    signal: (signal) => server.kill(signal),
    stop: async () => {
      await kill();
      await rm(folder, { recursive: true, force: true });
    },
  };
}

/** Three primaries that own all slots between them. */
export async function startRedisCluster(): Promise<{ target: RedisTarget; stop(): Promise<void> }> {
  const servers = await Promise.all([1, 2, 3].map(() => startRedis({ cluster: true })));
  const nodes = servers.map((server) => `127.0.0.1:${server.port}`);
  const create = spawnProcess("redis-cli", ["--cluster", "create", ...nodes, "--cluster-yes"]);
  await create.printed("[OK] All 16384 slots covered");
  return {
    target: { kind: "cluster", nodes },
    stop: async () => {
      await Promise.all(servers.map((server) => server.stop()));
    },
  };
}
