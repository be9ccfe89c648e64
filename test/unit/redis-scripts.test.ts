/** Checks the flags of Redis scripts, and the list of commands that a Redis user needs. */
import { readdirSync, readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { movingCommands, primaryCommands, readingCommands } from "../../shared/redis/setup.ts";

const shared = new URL("../../shared/", import.meta.url);
const files = readdirSync(shared, { recursive: true, encoding: "utf8" });
const textOf = (file: string): string => readFileSync(new URL(file, shared), "utf8");
const scripts = new Map(files.filter((file) => file.endsWith(".lua")).map((file) => [file, textOf(file)]));

function calledBy(text: string): string[] {
  return [...text.matchAll(/redis\.call\((?:front and 'LPUSH' or )?'([A-Z]+)'/g)].map(([, name = ""]) =>
    name.toLowerCase(),
  );
}

test("RED-4: every script declares its flags, and scripts that only read are no-writes", () => {
  expect(scripts.size).toBeGreaterThan(10);
  for (const [file, text] of scripts) {
    // Included by others.
    if (file.endsWith(".part.lua")) continue;
    const [, flags] = /^#!lua(?: flags=(no-writes|allow-oom))?\n/.exec(text) ?? ["", "undeclared"];
    expect(flags, file).not.toBe("undeclared");
    // Its command is an argument.
    if (file === "redis/run-command.lua") continue;
    const onlyReads = calledBy(text).every((name) =>
      /^(H?M?GET|HGETALL|HLEN|HVALS|P?TTL|XREV|XRANGE|TIME|LLEN|XLEN|EXISTS|INFO|LINDEX|LRANGE|SRANDMEMBER|ZCARD|ZRANGE$)/i.test(
        name,
      ),
    );
    expect(flags === "no-writes", file).toBe(onlyReads);
  }
});

test("RSEC-5: the check at the start covers exactly the commands that scripts and programs run", () => {
  const plainIn = (folders: (file: string) => boolean): string[] =>
    files
      .filter((file) => file.endsWith(".ts") && folders(file))
      .flatMap((file) => [
        ...textOf(file).matchAll(/\brun(?:At)?(?:<[^(]*>)?\(\s*(?:primary, )?"([a-z]+)(?:Buffer)?"/g),
      ])
      .map(([, name = ""]) => name);
  const isOfMoves = (file: string): boolean => file.startsWith("cells/");
  const scriptsIn = (folders: (file: string) => boolean): string[] =>
    [...scripts].filter(([file]) => folders(file)).flatMap(([, text]) => calledBy(text));
  const always = ["info", "eval", "evalsha", "ssubscribe", "sunsubscribe"];
  const others = (file: string): boolean => !isOfMoves(file);
  const used = new Set([...always, ...plainIn(others), ...scriptsIn(others)]);
  expect([...primaryCommands].toSorted()).toEqual([...used].toSorted());
  const ofMoves = ["client|id", "client|tracking", "subscribe", ...plainIn(isOfMoves), ...scriptsIn(isOfMoves)];
  const further = new Set(ofMoves.filter((command) => !used.has(command)));
  expect([...movingCommands].toSorted()).toEqual([...further].toSorted());
  const ofReads = new Set([...always, ...calledBy(scripts.get("channels/read-history.lua") ?? "")]);
  expect([...readingCommands].toSorted()).toEqual([...ofReads].toSorted());
});
