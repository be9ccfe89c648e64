/**
 * A webhook system as many are: for each webhook it reads the rows after a pointer, posts them in turn, and moves the pointer on. It loses
 * rows that commit late. Its table says where each webhook stands; a webhook is locked while it is at work.
 */
import { setTimeout as wait } from "node:timers/promises";
import type { Connect, SqlSession } from "./sql-workload.ts";

/** Of PostgreSQL and of MariaDB. What a webhook leaves out was sent by another system. */
export const oldWebhooksTables = `CREATE TABLE webhooks (
    id varchar(64) PRIMARY KEY, account varchar(64) NOT NULL, url varchar(256) NOT NULL, pointer bigint NOT NULL DEFAULT 0,
    active int NOT NULL DEFAULT 1);
  CREATE TABLE left_out (webhook varchar(64) NOT NULL, object_id varchar(191) NOT NULL, PRIMARY KEY (webhook, object_id))`;

export interface OldWebhooks {
  stop(): Promise<void>;
}

/** A connection for each webhook. */
export function startOldWebhooks(connect: Connect, ids: readonly string[]): OldWebhooks {
  let going = true;
  const running = ids.map(async (id) => {
    const session = await connect();
    try {
      for (; going; await wait(5)) await sendNext(session, id);
    } finally {
      await session.end();
    }
  });
  return {
    stop: async () => {
      going = false;
      await Promise.all(running);
    },
  };
}

async function sendNext(session: SqlSession, id: string): Promise<void> {
  await session.query("BEGIN");
  const [webhook] = await session.query(
    `SELECT account, url, pointer FROM webhooks WHERE id = '${id}' AND active = 1 FOR UPDATE`,
  );
  if (webhook) {
    const { account, url, pointer } = webhook;
    const rows = await session.query(
      `SELECT id, CONCAT(object_type, '.', action) AS event, payload,
         EXISTS (SELECT 1 FROM left_out l WHERE l.webhook = '${id}' AND l.object_id = t.object_id) AS is_left_out
       FROM transactions t WHERE id > ${String(pointer)} AND (account_id = '${String(account)}' OR '${String(account)}' = '*')
       ORDER BY id LIMIT 10`,
    );
    for (const row of rows) if (!row["is_left_out"]) await post(String(url), row);
    const last = rows.at(-1)?.["id"] ?? pointer;
    await session.query(`UPDATE webhooks SET pointer = ${String(last)} WHERE id = '${id}'`);
  }
  await session.query("COMMIT");
}

/** Until it is taken. */
async function post(url: string, { event, payload }: Record<string, unknown>): Promise<void> {
  // MariaDB has no JSON of its own: the payload is a text.
  const data: unknown = typeof payload === "string" ? JSON.parse(payload) : payload;
  for (;;) {
    const answer = await fetch(url, { method: "POST", body: JSON.stringify({ type: event, data }) });
    await answer.arrayBuffer();
    if (answer.ok) return;
  }
}
