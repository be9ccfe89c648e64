/** How the check of bypassed writes goes through a table, on one that is made up. */
import { execFileSync } from "node:child_process";
import { expect, test } from "vitest";
import { type CheckedTable, checkTable, maxListed, pageRows, type TableRow } from "../../deploy/sql-check.ts";
import { shellWord } from "../../shared/runtime/shell-word.ts";

/** @param bypassed by place in the table @param asked the keys after which pages were read */
function tableOf(rows: number, bypassed: (at: number) => boolean, asked: (string | undefined)[] = []): CheckedTable {
  const all = Array.from({ length: rows }, (_, at): TableRow => ({ key: String(at), isLogged: !bypassed(at) }));
  return {
    readPage: async (after) => {
      asked.push(after);
      const from = after === undefined ? 0 : Number(after) + 1;
      return all.slice(from, from + pageRows);
    },
    loggedEvents: async () => ["INSERT", "UPDATE", "DELETE"],
    close: () => undefined,
  };
}

const options = { after: undefined, until: Infinity, onPage: () => undefined };

test("SQL-12: the check reads each page of the table once, also where the last one is full", async () => {
  const asked: (string | undefined)[] = [];
  const table = tableOf(2 * pageRows, (at) => at === pageRows, asked);
  expect(await checkTable(table, options)).toEqual({ bypassed: [String(pageRows)], missingTriggers: [] });
  expect(asked).toEqual([undefined, String(pageRows - 1), String(2 * pageRows - 1)]);
});

test("SQL-12: the check stops after its time, and says where to continue", async () => {
  const last = String(pageRows - 1);
  const table = tableOf(3 * pageRows, (at) => at === 7 || at === 2 * pageRows);
  expect(await checkTable(table, { ...options, until: 0 })).toMatchObject({ bypassed: ["7"], continueAfter: last });
  expect(await checkTable(table, { ...options, after: last })).toEqual({
    bypassed: [String(2 * pageRows)],
    missingTriggers: [],
  });
});

test("SQL-12: the check lists no more rows than a person reads", async () => {
  const { bypassed } = await checkTable(
    tableOf(3 * pageRows, () => true),
    options,
  );
  expect(bypassed).toHaveLength(maxListed);
});

test("SQL-12: the key to continue with is one word of a shell, without what a terminal obeys", () => {
  expect(shellWord("contact-7")).toBe("contact-7");
  for (const key of ["it's $HOME", "", "a\\'b; \u001b[2J"]) {
    const word = shellWord(key);
    expect(word).toMatch(/^[ -~]*$/);
    expect(execFileSync("bash", ["-c", `printf %s ${word}`], { encoding: "utf8" })).toBe(key);
  }
});
