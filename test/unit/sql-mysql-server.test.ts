/** What the reader asks of servers of MySQL that the tests do not have. */
import type { RowDataPacket } from "mysql2/promise";
import { expect, test } from "vitest";
import { type Ask, checkServer } from "../../private-api/sources/mysql-server.ts";

/** @returns the statements that it got. */
async function statementsTo(version: string): Promise<string[]> {
  const statements: string[] = [];
  const ask: Ask = async <Found extends RowDataPacket>(sql: string) => {
    statements.push(sql);
    const rows = {
      "VERSION()": [{ version, name: "crm", number: "1" }],
      "information_schema.columns": [{ name: "id", extra: "auto_increment" }],
      "information_schema.tables": [{ readOnly: "0", increment: "1", engine: "InnoDB", nextId: "1" }],
    };
    return (Object.entries(rows).find(([part]) => sql.includes(part))?.[1] ?? []) as unknown as Found[];
  };
  const options = { url: "mysql://db/crm", table: "log", id: "id", columns: [], name: "test", warn: () => undefined };
  await checkServer(ask, options);
  return statements;
}

test.each([
  ["5.7.44-log", false],
  ["8.0.46", true],
  ["9.7.4", true],
  ["10.11.14-MariaDB", false],
])("SQL-16: the next id is no copy, and no server gets a setting that it lacks: %s", async (version, isSet) => {
  const statements = await statementsTo(version);
  expect(statements.some((sql) => sql.includes("information_schema_stats_expiry = 0"))).toBe(isSet);
});
