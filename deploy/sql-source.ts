/**
 * Finds writes of an application's table that bypassed the log table of a SQL source:
 *
 *   SQL_SOURCE_URL=postgres://… npm run sql-source -- check --table contacts --type contact [--key id] [--log transactions]
 *     [--seconds 60] [--after KEY] [--json]
 *
 * It lists rows whose last write is not in the log, up to 20, and says which triggers of the table are missing. PostgreSQL: the log must have the
 * transaction of the row's last write, for this object; writes before the oldest row of the log are left out, and a row that was written inside a
 * savepoint and logged outside of it is listed too. MySQL and MariaDB: the log must have heard of the row. `--type` is the object type in the log,
 * `--key` the primary key, `--log` the log table. It only reads, 2,000 rows a statement, in the order of the key. After `--seconds` it stops, and says
 * with which `--after` to continue. Exit code 1: there are such writes, triggers are missing, or the check could not be done to the end; 78: invalid
 * argument.
 */
import { readArguments, refuseArguments, toggle } from "../shared/runtime/command-line.ts";
import { excerpt } from "../shared/runtime/excerpt.ts";
import { reasonOf } from "../shared/runtime/reason-of.ts";
import { shellWord } from "../shared/runtime/shell-word.ts";
import { integer, optional, text } from "../shared/runtime/setting-kinds.ts";
import { defaultTimeouts } from "../private-api/sources/contract.ts";
import { checkTable, type Findings } from "./sql-check.ts";
import { openMysqlTable } from "./sql-check-mysql.ts";
import { openPostgresTable } from "./sql-check-postgres.ts";

const progressEveryMs = 5_000;
/** As much as an index of a text key holds. */
const maxKeyLength = 3_000;

const [command = ""] = process.argv.splice(2, 1);
if (command === "--help") process.argv.push(command);
else if (command !== "check") refuseArguments("the first argument must be check");
const given = readArguments({
  "--table": text(),
  "--type": text(),
  "--key": text({ fallback: "id" }),
  "--log": text({ fallback: "transactions" }),
  "--seconds": integer({ min: 1, max: 86_400, fallback: 60 }),
  "--after": optional(text()),
  "--json": toggle(),
  SQL_SOURCE_URL: text({ secret: true }),
});

const names = { table: given["--table"], key: given["--key"], log: given["--log"], type: given["--type"] };
const identifier = "[A-Za-z_][A-Za-z0-9_]*";
for (const [name, pattern] of [
  ["table", `${identifier}(\\.${identifier})?`],
  ["log", `${identifier}(\\.${identifier})?`],
  ["key", identifier],
] as const) {
  if (!new RegExp(`^${pattern}$`).test(names[name])) refuseArguments(`--${name}: is no name of a table or column`);
}
const address = given.SQL_SOURCE_URL;
const [, driver] = /^(postgres|mysql|mariadb)(?:ql)?:\/\//.exec(address) ?? [];
if (driver === undefined) refuseArguments("SQL_SOURCE_URL: must begin with postgres://, mysql:// or mariadb://");

async function check(): Promise<Findings> {
  const until = performance.now() + given["--seconds"] * 1_000;
  const table = await (driver === "postgres" ? openPostgresTable : openMysqlTable)(address, names);
  let saidAt = performance.now();
  const onPage = (rows: number): void => {
    if (performance.now() - saidAt < progressEveryMs) return;
    saidAt = performance.now();
    process.stderr.write(`${rows} rows of ${names.table} looked at\n`);
  };
  try {
    return await checkTable(table, { after: given["--after"], until, onPage });
  } finally {
    table.close();
  }
}

function print(findings: Findings): void {
  const { bypassed, missingTriggers, continueAfter } = findings;
  if (given["--json"]) {
    process.stdout.write(`${JSON.stringify(findings)}\n`);
    return;
  }
  const { table, key, log } = names;
  const lines = [
    ...bypassed.map((each) => `${table} ${key}=${excerpt(each, maxKeyLength)}: its last write is not in ${log}`),
    ...missingTriggers.map((event) => `${table}: no trigger logs ${event}`),
    ...(continueAfter === undefined
      ? []
      : [`not done: the time is over. Continue with --after=${shellWord(continueAfter)}`]),
  ];
  process.stdout.write(`${lines.length === 0 ? `every write of ${table} is logged` : lines.join("\n")}\n`);
}

// A database that accepts the connection and says nothing more.
const overdue = setTimeout(
  () => {
    process.stderr.write("the database does not answer\n");
    process.exit(1);
  },
  given["--seconds"] * 1_000 + defaultTimeouts.connectMs + defaultTimeouts.queryMs,
);
try {
  const findings = await check();
  print(findings);
  const { bypassed, missingTriggers, continueAfter } = findings;
  process.exitCode = bypassed.length + missingTriggers.length === 0 && continueAfter === undefined ? 0 : 1;
} catch (error) {
  process.stderr.write(`the check could not be done: ${reasonOf(error)}\n`);
  process.exitCode = 1;
} finally {
  clearTimeout(overdue);
}
