/** The deals of all accounts, in PostgreSQL. A change of a deal and its row in the log are one transaction: both are there, or neither. */
import { readFile } from "node:fs/promises";
import pg from "pg";
import { Refusal } from "../shared/failures.ts";

export const stages = ["lead", "offer", "won"] as const;

export interface Deal {
  id: number;
  account: string;
  name: string;
  stage: (typeof stages)[number];
  amount: number;
  version: number;
}

const columns = "id, account_id AS account, name, stage, amount, version";
const maxListed = 200;
const waitMs = 5_000;
/** Of PostgreSQL. */
const checkViolation = "23514";

export class Deals {
  readonly #pool: pg.Pool;

  /** @param report called with an error of a connection that nobody uses */
  constructor(url: string, report: (error: Error) => void) {
    this.#pool = new pg.Pool({
      connectionString: url,
      max: 10,
      connectionTimeoutMillis: waitMs,
      query_timeout: waitMs,
    });
    this.#pool.on("error", report);
  }

  /** Creates what the database lacks. */
  async prepare(): Promise<void> {
    for (const file of ["../../deploy/sql/postgres.sql", "schema.sql"]) {
      await this.#pool.query(await readFile(new URL(file, import.meta.url), "utf8"));
    }
  }

  async close(): Promise<void> {
    await this.#pool.end();
  }

  async of(account: string): Promise<Deal[]> {
    const { rows } = await this.#pool.query<Deal>(
      `SELECT ${columns} FROM deals WHERE account_id = $1 ORDER BY id DESC LIMIT ${maxListed}`,
      [account],
    );
    return rows;
  }

  async add(account: string, { name, amount }: Pick<Deal, "name" | "amount">): Promise<Deal> {
    return this.#transaction(async (client) => {
      const { rows } = await client.query<Deal>(
        `INSERT INTO deals (account_id, name, amount) VALUES ($1, $2, $3) RETURNING ${columns}`,
        [account, name, amount],
      );
      return log(client, "created", rows[0]);
    });
  }

  async move(account: string, id: number, stage: Deal["stage"]): Promise<Deal> {
    return this.#transaction(async (client) => {
      const { rows } = await client.query<Deal>(
        `UPDATE deals SET stage = $3, version = version + 1 WHERE account_id = $1 AND id = $2 RETURNING ${columns}`,
        [account, id, stage],
      );
      return log(client, "updated", rows[0]);
    });
  }

  /** Adds to one deal first. Where the other has not enough, the database takes that back, with its row in the log. */
  async transfer(account: string, { from, to, amount }: { from: number; to: number; amount: number }): Promise<void> {
    await this.#transaction(async (client) => {
      // In the same order everywhere: two transfers never wait for each other.
      await client.query("SELECT FROM deals WHERE account_id = $1 AND id IN ($2, $3) ORDER BY id FOR UPDATE", [
        account,
        from,
        to,
      ]);
      for (const [id, change] of [
        [to, amount],
        [from, -amount],
      ]) {
        const { rows } = await client.query<Deal>(
          `UPDATE deals SET amount = amount + $3, version = version + 1 WHERE account_id = $1 AND id = $2 RETURNING ${columns}`,
          [account, id, change],
        );
        await log(client, "updated", rows[0]);
      }
    });
  }

  async #transaction<Result>(work: (client: pg.PoolClient) => Promise<Result>): Promise<Result> {
    const client = await this.#pool.connect();
    let failure: Error | undefined;
    try {
      await client.query("BEGIN");
      const result = await work(client);
      await client.query("COMMIT");
      return result;
    } catch (error) {
      failure = await client.query("ROLLBACK").then(
        () => undefined,
        (reason: unknown) => reason as Error,
      );
      if ((error as { code?: string }).code === checkViolation) {
        throw new Refusal(409, "not_enough", "the deal does not have that much");
      }
      throw error;
    } finally {
      // A connection that could not roll back is closed.
      client.release(failure);
    }
  }
}

/** The one call that Tidegate needs. */
async function log(client: pg.PoolClient, action: "created" | "updated", deal: Deal | undefined): Promise<Deal> {
  if (!deal) throw new Refusal(404, "not_found", "the account has no such deal");
  await client.query("SELECT tidegate_log($1, 'deal', $2, $3, $4)", [
    deal.account,
    String(deal.id),
    action,
    JSON.stringify(deal),
  ]);
  return deal;
}
