import type { SqlSourceRule } from "../../shared/rules/sql-sources.ts";
import type { Database, DatabaseOptions } from "./contract.ts";

/** Loads the driver with its library when the first source of that kind is opened. @throws SourceRefused; any other error may pass */
export async function openDatabase(
  rule: SqlSourceRule,
  options: Pick<DatabaseOptions, "url" | "columns" | "name" | "warn">,
): Promise<Database> {
  const common = { ...options, table: rule.table, id: rule.id ?? "id" };
  if (rule.driver === "mysql") {
    const { openMysql } = await import("./mysql.ts");
    return openMysql(common);
  }
  const { xid, withoutXid, notify } = rule;
  const { openPostgres } = await import("./postgres.ts");
  return openPostgres({
    ...common,
    ...(xid !== undefined && { xid }),
    ...(withoutXid !== undefined && { withoutXid }),
    ...(notify !== undefined && { notify }),
  });
}
