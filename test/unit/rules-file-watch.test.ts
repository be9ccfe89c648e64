/** A rules file and the watcher of its folder, which is that of the test. */
import type * as fs from "node:fs";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { beforeEach, expect, onTestFinished, test, vi } from "vitest";
import { RulesFile } from "../../private-api/documents/rules-file.ts";
import { MemoryDocumentStore } from "../../shared/documents/memory.ts";
import { CurrentRules } from "../../shared/rules/current-rules.ts";
import { quietErrors, quietLogger } from "../support/logger.ts";

const watched = vi.hoisted(() => ({ hasWatchers: true, onChange: (): void => undefined }));
vi.mock("node:fs", async (original) => ({
  ...(await original<typeof fs>()),
  watch: (_folder: string, listener: () => void) => {
    // As where fs.inotify.max_user_instances is used up.
    if (!watched.hasWatchers) throw Object.assign(new Error("too many open files"), { code: "EMFILE" });
    watched.onChange = listener;
    return { on: () => undefined, close: () => undefined };
  },
}));

beforeEach(() => {
  watched.hasWatchers = true;
});

/** Its timers are advanced by the test. */
async function startRulesFile(): Promise<{ rules: CurrentRules; write: (historySize: number) => Promise<void> }> {
  vi.useFakeTimers({ toFake: ["setInterval", "clearInterval", "setTimeout", "clearTimeout", "performance"] });
  onTestFinished(() => void vi.useRealTimers());
  const folder = await mkdtemp(join(tmpdir(), "tidegate-rules-file-"));
  onTestFinished(() => rm(folder, { recursive: true }));
  const path = join(folder, "rules.json");
  const write = async (historySize: number): Promise<void> =>
    writeFile(path, JSON.stringify({ namespaces: { room: { historySize } } }));
  await write(5);
  const common = { store: new MemoryDocumentStore(), errors: quietErrors, logger: quietLogger };
  const rules = new CurrentRules(common);
  const file = new RulesFile({ ...common, path, currentRules: rules, environment: {} });
  await file.start();
  onTestFinished(() => file.stop());
  return { rules, write };
}

const historySizeOf = ({ rules }: CurrentRules): number | undefined => rules.document.namespaces?.["room"]?.historySize;

/** Advances the clock of the test in steps, and lets pending work run after each. @returns whether the rules came into force */
async function isInForce(rules: CurrentRules, historySize: number, step: () => void): Promise<boolean> {
  for (let n = 0; n < 100_000 && historySizeOf(rules) !== historySize; n++) {
    step();
    await new Promise((resolve) => setImmediate(resolve));
  }
  return historySizeOf(rules) === historySize;
}

test("RULE-8: a valid rules file is polled, and no reason to refuse the start, where the system has no watcher left", async () => {
  watched.hasWatchers = false;
  const { rules, write } = await startRulesFile();
  expect(historySizeOf(rules)).toBe(5);
  await write(6);
  expect(await isInForce(rules, 6, () => vi.advanceTimersByTime(1_000))).toBe(true);
});

test("RULE-7: a changed rules file is in force although something in its folder changes all the time", async () => {
  const { rules, write } = await startRulesFile();
  await write(6);
  const changed = await isInForce(rules, 6, () => {
    // As a log in which each line comes before the folder has been quiet.
    watched.onChange();
    vi.advanceTimersByTime(20);
  });
  expect(changed).toBe(true);
});
