/** Real redis-server processes, without persistence unless asked for; each in a folder of its own. */
import { mkdtemp, readdir, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Certificates } from "./certificates.ts";
import { freePort, type Spawned, spawnProcess } from "./processes.ts";

/** TLS in both directions, and a user who must log in. */
export interface Secure {
  readonly certificates: Certificates;
  readonly user: string;
  readonly password: string;
}

export interface RedisServer {
  readonly port: number;
  readonly url: string;
  /** What a client needs besides the URL. */
  readonly tls?: Certificates["pem"];
  readonly running: boolean;
  /** SIGKILL; data in the append-only file, if it has one, stays. */
  kill(): Promise<void>;
  /** On the same port and folder. */
  restart(options?: RestartOptions): Promise<void>;
  /** From now on the append-only file cannot grow: the kernel refuses writes to it. */
  fillDisk(): Promise<void>;
  freeDisk(): Promise<void>;
  /** SIGSTOP and SIGCONT, for a server that hangs. */
  signal(signal: NodeJS.Signals): void;
  stop(): Promise<void>;
}

interface RestartOptions {
  /** Port of the primary it copies from; absent: it is one itself. */
  replicaOf?: number;
  /** Without what its append-only file holds. */
  empty?: boolean;
  /** 16 otherwise. */
  databases?: number;
  /** The server takes that long for each key of its snapshot. Resolves once it begins to load. */
  loadingMsPerKey?: number;
}

/** Settings of servers and of sentinels. */
export function tlsSettings({ files }: Certificates, port: number): [name: string, value: string][] {
  return [
    ["port", "0"],
    ["tls-port", String(port)],
    ["tls-ca-cert-file", files.ca],
    ["tls-cert-file", files.cert],
    ["tls-key-file", files.key],
    ["tls-replication", "yes"],
  ];
}

export interface RedisOptions {
  appendOnly?: boolean;
  cluster?: boolean;
  replicaOf?: number;
  host?: string;
  secure?: Secure;
  /** Instead of `redis-server`. */
  program?: string;
  /** Further arguments. */
  settings?: readonly string[];
}

export async function startRedis(options: RedisOptions = {}): Promise<RedisServer> {
  const { host = "127.0.0.1", secure, program = "redis-server", settings = [] } = options;
  const folder = await mkdtemp(join(tmpdir(), "tidegate-redis-"));
  const port = await freePort();
  const fixed = ["--bind", host, "--dir", folder, "--save", ""];
  if (secure) {
    const { certificates, user, password } = secure;
    fixed.push(...tlsSettings(certificates, port).flatMap(([name, value]) => [`--${name}`, value]));
    fixed.push("--tls-cluster", options.cluster ? "yes" : "no", "--masteruser", user, "--masterauth", password);
    fixed.push("--user", "default", "off", "--user", user, "on", `>${password}`, "~*", "&*", "+@all");
  } else fixed.push("--port", String(port));
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
  const appendOnlyFolder = join(folder, "appendonlydir");
  let server: Spawned;

  async function start(how: RestartOptions = {}): Promise<void> {
    const { replicaOf, empty = false, databases = 16, loadingMsPerKey } = how;
    const all = [...fixed, ...settings, "--databases", String(databases)];
    if (empty) await rm(appendOnlyFolder, { recursive: true, force: true });
    if (replicaOf !== undefined) all.push("--replicaof", `127.0.0.1 ${replicaOf}`);
    // Between two keys of 1 KiB it answers commands.
    if (loadingMsPerKey !== undefined) {
      all.push("--key-load-delay", String(loadingMsPerKey * 1_000));
      all.push("--loading-process-events-interval-bytes", "1024");
    }
    // Without the trap a process ends at a write past its limit, see fillDisk.
    server = spawnProcess("sh", ["-c", `trap "" XFSZ; exec "$0" "$@"`, program, ...all]);
    await server.printed(loadingMsPerKey === undefined ? "Ready to accept connections" : "Server initialized");
  }
  async function kill(): Promise<void> {
    server.kill("SIGKILL");
    await server.exited;
  }
  await start(options.replicaOf === undefined ? {} : { replicaOf: options.replicaOf });
  return {
    port,
    url: urlOf(host, port, secure),
    ...(secure && { tls: secure.certificates.pem }),
    get running() {
      return server.child.exitCode === null && server.child.signalCode === null;
    },
    kill,
    restart: start,
    fillDisk: async () => {
      const files = await readdir(appendOnlyFolder);
      const sizes = await Promise.all(files.map(async (file) => (await stat(join(appendOnlyFolder, file))).size));
      await limitFileSize(server, String(Math.max(...sizes)));
    },
    freeDisk: async () => limitFileSize(server, "unlimited"),
    signal: (signal) => server.kill(signal),
    stop: async () => {
      await kill();
      await rm(folder, { recursive: true, force: true });
    },
  };
}

async function limitFileSize({ child }: Spawned, bytes: string): Promise<void> {
  const limited = spawnProcess("prlimit", ["--pid", String(child.pid), `--fsize=${bytes}:`]);
  if ((await limited.exited) !== 0) throw new Error(limited.output());
}

function urlOf(host: string, port: number, secure: Secure | undefined): string {
  const address = `${host.includes(":") ? `[${host}]` : host}:${port}`;
  if (!secure) return `redis://${address}`;
  return `rediss://${encodeURIComponent(secure.user)}:${encodeURIComponent(secure.password)}@${address}`;
}
