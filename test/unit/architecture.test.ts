/** The flows of docs/architecture.md against the code. */
import { readFileSync } from "node:fs";
import { dirname } from "node:path";
import { expect, test } from "vitest";

const root = new URL("../../", import.meta.url);
const [introduction = "", ...sections] = readFileSync(new URL("docs/architecture.md", root), "utf8").split("\n## ");
const flows = sections.map((section) => {
  const [title = ""] = section.split("\n", 1);
  const steps = [...section.matchAll(/^\d+\. `([^`]+)`(?: `([^`]+)`)?: /gm)];
  return { title, steps: steps.map(([, file = "", name]) => ({ file, name })) };
});

/** A function, class, method or property of that name. */
function declares(source: string, name: string): boolean {
  const topLevel = `^(export )?(async )?(function|class) ${name}\\b`;
  const member = `^ {2}((readonly|async|get|static) )*${name}\\b *[(<:=]`;
  return new RegExp(`${topLevel}|${member}`, "m").test(source);
}

test("the architecture names ten flows", () => {
  expect(flows.map(({ steps }) => steps.length > 5)).toEqual(Array.from({ length: 10 }, () => true));
});

test.each(flows)("every file and function of the flow exists: $title", ({ steps }) => {
  const missing = steps.filter(({ file, name }) => {
    const source = readFileSync(new URL(file, root), "utf8");
    return name !== undefined && !declares(source, name);
  });
  expect(missing).toEqual([]);
});

test.each(flows)("files and crossings between rooms are counted right: $title", ({ title, steps }) => {
  const rooms = steps.map(({ file }) => dirname(file));
  const files = new Set(steps.map(({ file }) => file)).size;
  const crossings = rooms.filter((room, step) => step > 0 && room !== rooms[step - 1]).length;
  const row = introduction.split("\n").find((line) => line.startsWith(`| ${title} `));
  expect(row?.split("|").slice(2, 4).map(Number)).toEqual([files, crossings]);
});
