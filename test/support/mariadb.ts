/** Real MariaDB servers, or MySQL servers, each in a folder of its own. */
import { mkdir, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Connection, createConnection, type RowDataPacket } from "mysql2/promise";
import { eventually } from "./eventually.ts";
import type { SqlServer } from "./postgres.ts";
import { freePort, type Spawned, spawnProcess } from "./processes.ts";

export const mariaDatabase = "crm";

/**
 * `MYSQLD` names a program of MySQL to start in place of MariaDB's: its version decides what is tested.
 * @param options.connections at once
 * @param options.settings of the server, each as `--name=value`
 */
export async function startMariaDb({
  connections = 150,
  settings = [],
}: { connections?: number; settings?: readonly string[] } = {}): Promise<SqlServer> {
  const folder = await mkdtemp(join(tmpdir(), "tidegate-mariadb-"));
  const port = await freePort();
  const { MYSQLD: mysqld } = process.env;
  const rights = process.getuid?.() === 0 ? ["--user=root"] : [];
  // A server that starts removes the temporary tables of others that have the same folder for them.
  const [data, temporary] = [join(folder, "data"), join(folder, "temporary")];
  await Promise.all([mkdir(data), mkdir(temporary)]);
  const common = [
    ...["--no-defaults", `--datadir=${data}`, `--tmpdir=${temporary}`, "--innodb-flush-log-at-trx-commit=2", ...rights],
  ];
  const created =
    mysqld === undefined
      ? spawnProcess("mariadb-install-db", [
          ...common,
          ...["--auth-root-authentication-method=normal", "--skip-test-db", "--innodb-log-file-size=8M"],
        ])
      : spawnProcess(mysqld, [...common, "--initialize-insecure"]);
  if ((await created.exited) !== 0) throw new Error(created.output());
  const args = [
    // 2: written at each commit. A server that is killed loses none.
    ...[...common, `--port=${port}`, "--bind-address=127.0.0.1", `--socket=${join(folder, "mysql.sock")}`],
    ...["--innodb-buffer-pool-size=32M", `--max-connections=${connections}`],
    ...(mysqld === undefined
      ? ["--innodb-log-file-size=8M", "--skip-name-resolve"]
      : ["--mysqlx=OFF", "--skip-log-bin", "--secure-file-priv=NULL"]),
    ...settings,
  ];
  let server: Spawned;
  async function start(): Promise<void> {
    server = spawnProcess(mysqld ?? "mariadbd", args);
    await server.printed("ready for connections");
  }
  async function kill(): Promise<void> {
    server.kill("SIGKILL");
    await server.exited;
  }
  await start();
  const root = await createConnection({ host: "127.0.0.1", port, user: "root" });
  await root.query(`CREATE DATABASE ${mariaDatabase}`);
  await root.end();
  return {
    port,
    url: `mysql://root@127.0.0.1:${port}/${mariaDatabase}`,
    kill,
    restart: start,
    stop: async () => {
      await kill();
      await rm(folder, { recursive: true, force: true });
    },
  };
}

export interface MariaDbPair {
  readonly primary: SqlServer;
  /** Follows the primary, and takes no writes of users without SUPER. */
  readonly replica: SqlServer;
  /** The primary's commits wait from here on until the replica has received them, and nobody sees them before: a failover loses no row that was read. */
  replicateBeforeCommit(): Promise<void>;
  /** Stops the replication, or continues it. Before {@link replicateBeforeCommit} the primary commits without waiting for the replica. */
  follow(isFollowing: boolean): Promise<void>;
  /** The replica applies what it has received, follows nobody any more, and takes writes. */
  promote(): Promise<void>;
  stop(): Promise<void>;
}

/** Only of MariaDB: statements of the replication have other names in MySQL. */
export async function startMariaDbPair(): Promise<MariaDbPair> {
  const settings = (id: number): string[] => [
    `--server-id=${id}`,
    "--log-basename=crm",
    "--log-bin",
    "--log-slave-updates",
  ];
  const [primary, replica] = await Promise.all([
    startMariaDb({ settings: settings(1) }),
    startMariaDb({ settings: [...settings(2), "--read-only=1"] }),
  ]);
  const [inPrimary, inReplica] = [await connectMariaDb(primary.url), await connectMariaDb(replica.url)];
  // What each of them did at its start is in no log that is replicated.
  await inPrimary.query("RESET MASTER");
  await inReplica.query(
    `RESET MASTER; SET GLOBAL gtid_slave_pos = '';
     CHANGE MASTER TO MASTER_HOST = '127.0.0.1', MASTER_PORT = ${primary.port}, MASTER_USER = 'root', MASTER_USE_GTID = slave_pos; START SLAVE`,
  );
  return {
    ...{ primary, replica },
    replicateBeforeCommit: async () => {
      await inReplica.query("STOP SLAVE; SET GLOBAL rpl_semi_sync_slave_enabled = 1; START SLAVE");
      // The wait never ends without the replica, on a busy machine neither.
      await inPrimary.query(
        "SET GLOBAL rpl_semi_sync_master_timeout = 3600000; SET GLOBAL rpl_semi_sync_master_wait_point = 'AFTER_SYNC'; SET GLOBAL rpl_semi_sync_master_enabled = 1",
      );
      await eventually(async () => {
        const [rows] = await inPrimary.query<StatusRow[]>("SHOW STATUS LIKE 'Rpl_semi_sync_master_clients'");
        return rows[0]?.Value === "1";
      });
    },
    follow: async (isFollowing) => void (await inReplica.query(`${isFollowing ? "START" : "STOP"} SLAVE`)),
    promote: async () => {
      await inReplica.query("STOP SLAVE IO_THREAD");
      const [[status]] = await inReplica.query<SlaveRow[]>("SHOW SLAVE STATUS");
      // Not by the state of the thread that applies: it may say that all is read until it wakes up for what came last.
      const received = status?.Gtid_IO_Pos ?? "";
      const [[wait]] = await inReplica.query<WaitRow[]>("SELECT MASTER_GTID_WAIT(?, 60) AS outcome", [received]);
      if (wait?.outcome !== 0) throw new Error(`the replica has not applied ${received}`);
      await inReplica.query("STOP SLAVE; RESET SLAVE ALL; SET GLOBAL read_only = 0");
    },
    stop: async () => {
      for (const connection of [inPrimary, inReplica]) connection.destroy();
      await Promise.all([primary.stop(), replica.stop()]);
    },
  };
}

type StatusRow = RowDataPacket & { Value: string };
type SlaveRow = RowDataPacket & { Gtid_IO_Pos: string };
type WaitRow = RowDataPacket & { outcome: number };

/** A connection of the application. The caller ends it. */
export async function connectMariaDb(url: string): Promise<Connection> {
  return createConnection({ uri: url, multipleStatements: true });
}
