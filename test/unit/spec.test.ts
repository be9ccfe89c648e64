/** The specification and the tests speak of the same rules. */
import { readdirSync, readFileSync } from "node:fs";
import { expect, test } from "vitest";

const root = new URL("../../", import.meta.url);
const rules = readFileSync(new URL("docs/SPEC.md", root), "utf8")
  .split("\n")
  .flatMap((line) => /^- \*\*([A-Z]{2,5}-\d{1,2})\*\*/.exec(line)?.[1] ?? []);
/** A title quotes a rule by beginning with its id and a colon. */
const quoted = new Set(
  readdirSync(new URL("test/", root), { recursive: true, encoding: "utf8" })
    .filter((file) => file.endsWith("-suite.ts") || file.endsWith(".test.ts"))
    .flatMap((file) => [...readFileSync(new URL(`test/${file}`, root), "utf8").matchAll(/["'`]([A-Z]{2,5}-\d+): /g)])
    .map(([, id = ""]) => id),
);

test("every rule of the specification is quoted by a test's title", () => {
  expect(rules.length).toBeGreaterThan(50);
  expect(new Set(rules).size).toBe(rules.length);
  expect(rules.filter((id) => !quoted.has(id))).toEqual([]);
});

test("every rule that a test's title quotes is in the specification", () => {
  expect([...quoted].filter((id) => !rules.includes(id))).toEqual([]);
});
