/** Connects to PostgreSQL so that the connection can be cut while the server does not answer. */
import { Socket } from "node:net";
import type { Client } from "pg";
import * as contract from "./contract.ts";

export interface PostgresConnection {
  client: Client;
  /** Destroyed, it ends the connection, also where the database does not answer. */
  socket: Socket;
}

/** With it PgBouncer refuses settings that it does not pass on. */
const protocolViolation = "08P01";

/**
 * A read-only session, whose statements end in time, and use an index where there is one: a table that grew fast may be read from its start
 * otherwise. The caller destroys the socket.
 * @throws SourceRefused where a pooler does not take the settings; any other error may pass
 */
export async function connectPostgres({
  url,
  name,
  timeouts = contract.defaultTimeouts,
}: Pick<contract.DatabaseOptions, "url" | "name" | "timeouts">): Promise<PostgresConnection> {
  const { default: pg } = await import("pg");
  const socket = new Socket();
  const client = new pg.Client({
    connectionString: url,
    application_name: name,
    // Ours, so that it can be destroyed while the database does not answer.
    stream: () => socket,
    connectionTimeoutMillis: timeouts.connectMs,
    statement_timeout: timeouts.statementMs,
    query_timeout: timeouts.queryMs,
    idle_in_transaction_session_timeout: timeouts.statementMs,
    keepAlive: true,
    // Not by SET: it would stay in the session of a pooler, where applications get it, too.
    options: "-c default_transaction_read_only=on -c enable_seqscan=off",
  });
  // Calls that are under way fail by themselves.
  client.on("error", () => undefined);
  try {
    await client.connect();
    // A database without an encoding checks what it sends: one text that is no UTF-8 would fail each statement that reads it.
    await client.query(
      "SELECT set_config('client_encoding', 'SQL_ASCII', false) WHERE current_setting('server_encoding') = 'SQL_ASCII'",
    );
  } catch (error) {
    socket.destroy();
    const { code, message } = error as { code?: string; message?: string };
    if (code === protocolViolation && message?.includes("unsupported startup parameter")) {
      throw new contract.SourceRefused(
        `a pooler is in between (${message}): name the server itself, or set ignore_startup_parameters = options,statement_timeout,idle_in_transaction_session_timeout in PgBouncer`,
      );
    }
    throw error;
  }
  return { client, socket };
}
