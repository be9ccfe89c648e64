/** Goes through an application's table once, page by page, and finds rows whose last write is not in the log of a SQL source. */

export interface TableRow {
  /** As text. */
  readonly key: string;
  readonly isLogged: boolean;
}

/** An application's table beside its log. Each call is a statement of its own, so that no transaction stays open. */
export interface CheckedTable {
  /** The next rows by key, at most {@link pageRows}. @param after the last key of the page before; undefined: from the first */
  readPage(after: string | undefined): Promise<readonly TableRow[]>;
  /** Writes that a trigger logs: of INSERT, UPDATE and DELETE. */
  loggedEvents(): Promise<readonly string[]>;
  /** Cuts the connection, also where the database does not answer. */
  close(): void;
}

export interface CheckedNames {
  /** `table`, or `schema.table`. */
  readonly table: string;
  readonly log: string;
  /** The primary key of the table. */
  readonly key: string;
  /** The object type in the log. */
  readonly type: string;
}

export interface Findings {
  /** Keys of rows whose last write is not in the log, up to {@link maxListed}. */
  readonly bypassed: readonly string[];
  /** Writes without a trigger that logs them. */
  readonly missingTriggers: readonly string[];
  /** The time was over: rows after this key were not looked at. */
  readonly continueAfter?: string;
}

/** Of one statement, which takes some ms. */
export const pageRows = 2_000;
export const maxListed = 20;

/** Something to change before the table can be checked. */
export class CheckRefused extends Error {
  override readonly name = "CheckRefused";
}

const events = ["INSERT", "UPDATE", "DELETE"];

/** @param options.until by `performance.now()` @param options.onPage called with the number of rows that were looked at */
export async function checkTable(
  table: CheckedTable,
  { after, until, onPage }: { after: string | undefined; until: number; onPage: (rows: number) => void },
): Promise<Findings> {
  const logged = await table.loggedEvents();
  const missingTriggers = events.filter((event) => !logged.includes(event));
  const bypassed: string[] = [];
  let [last, rows] = [after, 0];
  for (;;) {
    const page = await table.readPage(last);
    rows += page.length;
    onPage(rows);
    bypassed.push(...page.filter(({ isLogged }) => !isLogged).map(({ key }) => key));
    last = page.at(-1)?.key;
    if (last === undefined || page.length < pageRows || bypassed.length >= maxListed) {
      return { bypassed: bypassed.slice(0, maxListed), missingTriggers };
    }
    if (performance.now() >= until) return { bypassed, missingTriggers, continueAfter: last };
  }
}
