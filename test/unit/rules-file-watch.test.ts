/** A rules file and the watcher of its folder, which is that of the test. */
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
  ...(await original<typeof import("node:fs")>()),
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

/** On the clock of the test; then what is under way goes on. */
async function pass(ms: number): Promise<void> {
  vi.advanceTimersByTime(ms);
  await new Promise((resolve) => setImmediate(resolve));
}

test("RULE-8: a valid rules file is polled, and no reason to refuse the start, where the system has no watcher left", async () => {
  watched.hasWatchers = false;
  const { rules, write } = await startRulesFile();
  expect(historySizeOf(rules)).toBe(5);
  await write(6);
  while (historySizeOf(rules) !== 6) await pass(1_000);
});
