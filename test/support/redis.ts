/** Real redis-server processes, without persistence unless asked for; each in a folder of its own. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { freePort, type Spawned, spawnProcess } from "./processes.ts";

export interface RedisServer {
  readonly port: number;
  readonly url: string;
  readonly running: boolean;
  /** SIGKILL; data in the append-only file, if it has one, stays. */
  kill(): Promise<void>;
  /** On the same port and folder. */
  restart(options?: RestartOptions): Promise<void>;
  /** SIGSTOP and SIGCONT, for a server that hangs. */
  signal(signal: NodeJS.Signals): void;
  stop(): Promise<void>;
}

interface RestartOptions {
  /** Port of the primary it copies from; absent: it is one itself. */
  replicaOf?: number;
  /** Without what its append-only file holds. */
  empty?: boolean;
}

export async function startRedis(
  options: { appendOnly?: boolean; cluster?: boolean; replicaOf?: number } = {},
): Promise<RedisServer> {
  const folder = await mkdtemp(join(tmpdir(), "tidegate-redis-"));
  const port = await freePort();
  const fixed = ["--port", String(port), "--bind", "127.0.0.1", "--dir", folder, "--save", ""];
  // Written at once, whatever the disk is busy with: a killed process then loses nothing.
  fixed.push("--appendonly", options.appendOnly ? "yes" : "no", "--appendfsync", "no");
  // Without it a replica copies at most five seconds after it is told to.
  fixed.push("--repl-diskless-sync-delay", "0");
  // A quiet primary's replica has something to acknowledge each second.
  fixed.push("--repl-ping-replica-period", "1");
  if (options.cluster) {
    const busPort = await freePort();
    fixed.push("--cluster-enabled", "yes", "--cluster-port", String(busPort), "--cluster-node-timeout", "2000");
    fixed.push("--cluster-replica-validity-factor", "0");
  }
  let server: Spawned;

  async function start({ replicaOf, empty = false }: RestartOptions = {}): Promise<void> {
    if (empty) await rm(join(folder, "appendonlydir"), { recursive: true, force: true });
    const role = replicaOf === undefined ? [] : ["--replicaof", `127.0.0.1 ${replicaOf}`];
    server = spawnProcess("redis-server", [...fixed, ...role]);
    await server.printed("Ready to accept connections");
  }
  async function kill(): Promise<void> {
    server.kill("SIGKILL");
    await server.exited;
  }
  await start(options.replicaOf === undefined ? {} : { replicaOf: options.replicaOf });
  return {
    port,
    url: `redis://127.0.0.1:${port}`,
    get running() {
      return server.child.exitCode === null && server.child.signalCode === null;
    },
    kill,
    restart: start,
    signal: (signal) => server.kill(signal),
    stop: async () => {
      await kill();
      await rm(folder, { recursive: true, force: true });
    },
  };
}
