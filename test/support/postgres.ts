/** Real PostgreSQL servers, each in a folder of its own. */
import { chmod, chown, mkdtemp, rm } from "node:fs/promises";
import { spawnSync } from "node:child_process";
import { tmpdir } from "node:os";
import { join } from "node:path";
import pg from "pg";
import { freePort, type Spawned, spawnProcess } from "./processes.ts";
import { postgresFolder } from "./sql-programs.ts";

export interface PostgresServer extends SqlServer {
  /** Ends the primary and starts a replica in its place, which is in recovery until somebody calls `pg_promote()`. It lacks nothing. */
  failOver(): Promise<void>;
}

export interface SqlServer {
  readonly port: number;
  readonly url: string;
  /** Ends it at once, as a crash does. */
  kill(): Promise<void>;
  /** On the same port and folder. */
  restart(): Promise<void>;
  stop(): Promise<void>;
}

/** PostgreSQL refuses to run as root: this user, which its package creates, runs it then. */
const user = "postgres";
const databaseUser = "tidegate";

/** @param options.connections at once */
export async function startPostgres({ connections = 150 } = {}): Promise<PostgresServer> {
  const bin = postgresFolder();
  if (bin === undefined) throw new Error("PostgreSQL is not installed: run npm test, or apt-get install postgresql");
  const port = await freePort();
  const isRoot = process.getuid?.() === 0;
  const folders: string[] = [];
  async function newFolder(): Promise<string> {
    const folder = await mkdtemp(join(tmpdir(), "tidegate-postgres-"));
    folders.push(folder);
    if (isRoot) {
      await chown(folder, idOf("-u"), idOf("-g"));
      // The folders above it let this user through: see run-folder.ts.
      await chmod(folder, 0o700);
    }
    return folder;
  }
  const folder = await newFolder();
  const started = (program: string, args: readonly string[]): Spawned =>
    isRoot
      ? // A change of user clears the signal for the end of the parent, so `setpriv` sets it again.
        spawnProcess(
          "setpriv",
          [
            ...["--reuid", user, "--regid", user, "--clear-groups", "--pdeathsig", "KILL", "--"],
            join(bin, program),
            ...args,
          ],
          { cwd: folder },
        )
      : spawnProcess(join(bin, program), args, { cwd: folder });
  const created = started("initdb", [
    ...["-D", folder, "-U", databaseUser, "-A", "trust"],
    ...["--no-sync", "--locale=C", "-E", "UTF8"],
  ]);
  if ((await created.exited) !== 0) throw new Error(created.output());
  const settings = {
    port,
    listen_addresses: "127.0.0.1",
    unix_socket_directories: "",
    fsync: "off",
    shared_buffers: "16MB",
    max_connections: connections,
  };
  const args = Object.entries(settings).flatMap(([name, value]) => ["-c", `${name}=${value}`]);
  let server: Spawned;
  let data = folder;
  async function start(): Promise<void> {
    server = started("postgres", ["-D", data, ...args]);
    // A replica in recovery accepts read-only connections.
    await server.printed("ready to accept");
  }
  async function kill(): Promise<void> {
    // An immediate shutdown: the next start recovers as after a crash, and no process is left.
    server.kill("SIGQUIT");
    await server.exited;
  }
  await start();
  return {
    port,
    url: `postgres://${databaseUser}@127.0.0.1:${port}/postgres`,
    kill,
    restart: start,
    failOver: async () => {
      const replica = await newFolder();
      const copied = started("pg_basebackup", [
        ...["-D", replica, "-R", "-c", "fast", "--no-sync"],
        ...["-d", `postgres://${databaseUser}@127.0.0.1:${port}/postgres`],
      ]);
      if ((await copied.exited) !== 0) throw new Error(copied.output());
      await kill();
      data = replica;
      await start();
    },
    stop: async () => {
      await kill();
      await Promise.all(folders.map(async (each) => rm(each, { recursive: true, force: true })));
    },
  };
}

/** A connection of the application. The caller ends it. */
export async function connectPostgres(url: string): Promise<pg.Client> {
  const client = new pg.Client({ connectionString: url });
  // A test that restarts the server hears of it by its queries.
  client.on("error", () => undefined);
  await client.connect();
  return client;
}

function idOf(flag: "-u" | "-g"): number {
  return Number(spawnSync("id", [flag, user], { encoding: "utf8" }).stdout);
}
