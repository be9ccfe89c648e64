/**
 * Writers of a log table that do what applications do: they commit late, roll back, use savepoints, and write last in a transaction that
 * began first. Beside them a naive reader asks for `id > pointer`.
 */
import { setTimeout as wait } from "node:timers/promises";
import { eventually } from "./eventually.ts";
import { connectMariaDb } from "./mariadb.ts";
import { connectPostgres, type SqlServer } from "./postgres.ts";
import { SeededRandom } from "./seeded-random.ts";

export interface SqlSession {
  query(sql: string): Promise<Record<string, unknown>[]>;
  end(): Promise<void>;
}

export type Connect = () => Promise<SqlSession>;

export function postgresSessions(url: string): Connect {
  return async () => {
    const client = await connectPostgres(url);
    return {
      query: async (sql) => (await client.query<Record<string, unknown>>(sql)).rows ?? [],
      end: async () => client.end(),
    };
  };
}

export function mariaDbSessions(url: string): Connect {
  return async () => {
    const connection = await connectMariaDb(url);
    connection.on("error", () => undefined);
    return {
      query: async (sql) => {
        const [rows] = await connection.query(sql);
        return Array.isArray(rows) ? (rows as Record<string, unknown>[]) : [];
      },
      end: async () => connection.end(),
    };
  };
}

export const accounts = 4;
const maxDelayMs = 40;

/** @param n unique: names the row in what is published */
export function insertOf(account: number | string, n: number): string {
  return `INSERT INTO transactions (account_id, object_type, object_id, action, payload)
    VALUES ('${account}', 'contact', '${n}', 'updated', '{"n": ${n}}')`;
}

/** When the writer began a transaction, and when it heard of its commit: by `performance.now()`. */
interface Written {
  begunAt: number;
  committedAt: number;
}

export interface Workload {
  /** By n; without those whose outcome is unknown. */
  readonly written: ReadonlyMap<number, Written>;
  /** Resolves once every writer has ended its transaction. */
  stop(): Promise<void>;
}

let nextN = 1;

export function freshN(): number {
  return nextN++;
}

/**
 * @param options.early a statement that gives the transaction its number before it writes its row
 * @param options.prefix begins the names of the accounts; their numbers follow
 * @param options.pauseMs of a writer between two transactions
 */
export function startWorkload(options: {
  connect: Connect;
  writers: number;
  seed: string;
  early: string;
  prefix?: string;
  pauseMs?: number;
}): Workload {
  const { connect, writers, seed, early, prefix = "", pauseMs = 0 } = options;
  const written = new Map<number, Written>();
  let going = true;

  async function transact(session: SqlSession, random: SeededRandom): Promise<void> {
    const [n, other] = [freshN(), freshN()];
    const account = `${prefix}${random.between(1, accounts)}`;
    const insert = insertOf(account, n);
    const delay = async (): Promise<void> => wait(random.between(0, maxDelayMs));
    const run = async (...steps: readonly (string | (() => Promise<void>))[]): Promise<void> => {
      for (const step of steps) await (typeof step === "string" ? session.query(step) : step());
    };
    const begunAt = performance.now();
    const kind = random.between(0, 5);
    if (kind === 0) await run(insert);
    else if (kind === 1) await run("BEGIN", insert, delay, "COMMIT");
    else if (kind === 2) await run("BEGIN", insert, delay, "ROLLBACK");
    else if (kind === 3) await run("BEGIN", "SAVEPOINT s", insert, "RELEASE SAVEPOINT s", delay, "COMMIT");
    else if (kind === 4) {
      await run("BEGIN", "SAVEPOINT s", insertOf(account, other), "ROLLBACK TO SAVEPOINT s", insert, delay, "COMMIT");
    } else await run("BEGIN", early, delay, insert, "COMMIT");
    if (kind !== 2) written.set(n, { begunAt, committedAt: performance.now() });
  }

  async function writer(random: SeededRandom): Promise<void> {
    let session: SqlSession | undefined;
    while (going) {
      try {
        session ??= await connect();
        await transact(session, random);
        if (pauseMs > 0) await wait(pauseMs);
      } catch {
        // The server restarts: what was under way may or may not be committed, the table tells.
        session = undefined;
        await wait(50);
      }
    }
    await session?.end();
  }

  const running = Array.from({ length: writers }, (_, at) => writer(new SeededRandom(`${seed} ${at}`)));
  return {
    written,
    stop: async () => {
      going = false;
      await Promise.all(running);
    },
  };
}

/** Writers are at work before, while and after the server is killed and restarted. */
export async function writeThroughRestart(
  server: Pick<SqlServer, "kill" | "restart">,
  writing: { connect: Connect; early: string },
): Promise<void> {
  const workload = startWorkload({ ...writing, writers: 6, seed: "restart" });
  await eventually(() => workload.written.size > 100);
  await server.kill();
  await server.restart();
  const before = workload.written.size;
  await eventually(() => workload.written.size > before + 100);
  await workload.stop();
}

export interface NaiveReader {
  /** Ids of rows that the table has and the reader did not see. */
  stop(): Promise<string[]>;
}

/** What many systems do: the rows after the highest id that was seen. */
export function startNaiveReader(connect: Connect): NaiveReader {
  const seen = new Set<string>();
  let pointer = 0n;
  let going = true;
  async function read(session: SqlSession): Promise<void> {
    const rows = await session.query(`SELECT id FROM transactions WHERE id > ${pointer} ORDER BY id LIMIT 1000`);
    for (const { id } of rows) {
      seen.add(String(id));
      pointer = BigInt(String(id));
    }
  }
  const running = (async () => {
    let session: SqlSession | undefined;
    while (going) {
      try {
        session ??= await connect();
        await read(session);
      } catch {
        // The server restarts.
        session = undefined;
      }
      await wait(5);
    }
    await session?.end();
  })();
  return {
    stop: async () => {
      going = false;
      await running;
      const session = await connect();
      await read(session);
      const all = await session.query("SELECT id FROM transactions");
      await session.end();
      return all.map(({ id }) => String(id)).filter((id) => !seen.has(id));
    },
  };
}

/** @returns pairs that came in the wrong order: the second one was committed before the transaction of the first one began. */
export function inversions(inOrder: readonly number[], written: Workload["written"]): [number, number][] {
  const found: [number, number][] = [];
  for (const [at, n] of inOrder.entries()) {
    const own = written.get(n);
    if (!own) continue;
    for (const later of inOrder.slice(at + 1)) {
      const other = written.get(later);
      if (other && other.committedAt < own.begunAt) found.push([n, later]);
    }
  }
  return found;
}
