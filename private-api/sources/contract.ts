/**
 * The contract between the reader of a shard and its database. PostgreSQL and MySQL differ in how they tell which rows have become
 * visible; both are tested against real servers (test/integration/sql-postgres.test.ts, sql-mysql.test.ts).
 *
 * Every implementation MUST
 * - find each row of the table once, also where its transaction ends late, or its id is below those of rows that were found before;
 * - describe a page so that the same rows are read again, whatever is written meanwhile;
 * - hold no transaction open between two calls, and nothing in the database that outlives the connection;
 * - fail within {@link Timeouts.queryMs} where the database does not answer, and end each statement after {@link Timeouts.statementMs}.
 */

import { maxPayloadBytes } from "../../shared/protocol/limits.ts";

export interface Row {
  /** Digits. */
  readonly id: string;
  /** By column, as text. */
  readonly values: Readonly<Record<string, string | null>>;
}

/** A position of the reader, as text that only the implementation understands. */
export type Cursor = string;
/** Rows that became visible together, as text that only the implementation understands. */
export type Page = string;

export interface NewRows {
  /** Where the next read begins once the page is published. */
  readonly next: Cursor;
  /** Undefined: no row has become visible. */
  readonly page?: Page;
  /** All rows of the page, where they are known already. */
  readonly rows?: readonly Row[];
  /** Further rows may have been visible, also where there is no page: the bounds of a read ended it. */
  readonly isPart?: true;
}

export interface Database {
  /** Names the database and the table: a cursor is of no use in another one. */
  readonly identity: string;
  /** Another one begins with a failover or a restore, which may have lost transactions. */
  readonly timeline: string;
  begin(start: "end" | "beginning"): Promise<Cursor>;
  /** @throws RowsLost; SourceRefused where the cursor is of no use */
  readNew(cursor: Cursor): Promise<NewRows>;
  /** Rows of the page by id. @param after the id of the last one that is known; "" for none */
  readPage(page: Page, after: string): Promise<{ rows: readonly Row[]; isLast: boolean }>;
  /** Rows by their ids, in any order; those that the table does not have are left out. */
  readRows(ids: readonly string[]): Promise<readonly Row[]>;
  /** Called when the database says that rows were written, and when the connection is lost: the next call fails then. */
  onNotice(listener: () => void): void;
  /** Cuts the connection, also where the database does not answer. Calls that are under way fail. */
  close(): void;
}

export interface DatabaseOptions {
  url: string;
  table: string;
  /** The column with the id. */
  id: string;
  /** Columns to read. */
  columns: readonly string[];
  /** Names the connection in the database's own lists. */
  name: string;
  /** Something that the operator should change. */
  warn: (finding: string) => void;
  /** Shorter ones in tests. */
  timeouts?: Timeouts;
}

export interface Timeouts {
  connectMs: number;
  /** The server ends a statement after it. */
  statementMs: number;
  /** A server that does not answer at all is given up after it. */
  queryMs: number;
}

export const defaultTimeouts: Timeouts = { connectMs: 10_000, statementMs: 15_000, queryMs: 20_000 };

/** Rows of one read. */
export const pageRows = 250;
/** Of a column: longer texts are cut, and are no data that can be published. Twice what a publication may have, for white space. */
export const maxTextLength = 2 * maxPayloadBytes;

/** Reading on would lose rows, or cannot work: the operator must change something. */
export class SourceRefused extends Error {
  override readonly name: string = "SourceRefused";
}

/** The table lacks one of {@link DatabaseOptions.columns}, or the right to read it. */
export class ColumnMissing extends SourceRefused {
  override readonly name = "ColumnMissing";
}

/**
 * The database lacks rows that were read, and gives their ids, or the numbers of their transactions, again. It shows only until the database
 * has given more of them than were read: so the reader stores it.
 */
export class RowsLost extends SourceRefused {
  override readonly name = "RowsLost";
}

/** @throws SourceRefused that does not quote the URL: it contains a password. */
export function checkUrl(text: string, protocols: readonly string[]): void {
  const url = URL.parse(text);
  if (!url && protocols.some((protocol) => text.startsWith(`${protocol}//`))) {
    throw new SourceRefused(
      "the URL of the database cannot be read: percent-encode special characters of the user, password and name, e.g. %23 for #, %2F for /, %3F for ?",
    );
  }
  if (!url || !protocols.includes(url.protocol)) {
    throw new SourceRefused(
      `the URL of the database must begin with ${protocols.map((each) => `${each}//`).join(" or ")}`,
    );
  }
  try {
    for (const part of [url.username, url.password, url.pathname]) decodeURIComponent(part);
  } catch {
    throw new SourceRefused(
      "the URL of the database has a % that begins no character: write %25 for a % of the user, password or name",
    );
  }
}
