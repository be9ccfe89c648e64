import { mkdtemp, rename, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { RulesFile } from "../../private-api/documents/rules-file.ts";
import type { DocumentStore } from "../../shared/documents/contract.ts";
import { MemoryDocumentStore } from "../../shared/documents/memory.ts";
import { CurrentRules } from "../../shared/rules/current-rules.ts";
import { brokerUnavailable } from "../../shared/redis/unavailable.ts";
import { checkRules } from "../../shared/rules/document.ts";
import type { Logger } from "../../shared/runtime/logging.ts";
import { eventually } from "../support/eventually.ts";
import { quietErrors, quietLogger } from "../support/logger.ts";

/** With a rules file in it. */
async function rulesFolder(): Promise<{ folder: string; path: string }> {
  const folder = await mkdtemp(join(tmpdir(), "tidegate-rules-file-"));
  onTestFinished(() => rm(folder, { recursive: true }));
  const path = join(folder, "rules.json");
  await writeFile(path, JSON.stringify({ namespaces: { room: { historySize: 5 } } }));
  return { folder, path };
}

test("RULE-7: a rules file that is away for a moment and returns unchanged leaves no finding", async () => {
  const { folder, path } = await rulesFolder();
  const away = join(folder, "away");
  const store = new MemoryDocumentStore();
  const common = { store, errors: quietErrors, logger: quietLogger };
  const currentRules = new CurrentRules(common);
  const file = new RulesFile({ ...common, path, currentRules, environment: {} });
  await file.start();
  onTestFinished(() => file.stop());
  expect(file.findings).toEqual([]);
  await rename(path, away);
  await eventually(() => file.findings.length > 0);
  expect(file.findings).toEqual([expect.stringContaining("the file cannot be read: ENOENT")]);
  await rename(away, path);
  await eventually(() => file.findings.length === 0);
  expect((await store.read())?.version).toBe(1);
});

test("RULE-13: a process that was frozen before it restored its file replaces no newer one", async () => {
  const { folder, path } = await rulesFolder();
  let inner = new MemoryDocumentStore();
  const newer = checkRules({ namespaces: { room: { historySize: 6 } } });
  const { promise: restored, resolve: markRestored } = Promise.withResolvers<void>();
  let isLost = false;
  const store: DocumentStore = {
    start: async () => undefined,
    stop: async () => undefined,
    onChange: () => undefined,
    read: async () => {
      const stored = await inner.read();
      // Another process stores its file before this one wakes.
      if (isLost && !stored) await inner.put({ document: newer });
      return stored;
    },
    put: async (request) => {
      const outcome = await inner.put(request);
      if (isLost) markRestored();
      return outcome;
    },
  };
  const common = { errors: quietErrors, logger: quietLogger };
  const currentRules = new CurrentRules({ ...common, store: inner });
  const file = new RulesFile({ ...common, store, path, currentRules, environment: {} });
  await file.start();
  onTestFinished(() => file.stop());
  inner = new MemoryDocumentStore();
  isLost = true;
  // The folder changes, so the file is read again.
  await writeFile(join(folder, "other"), "");
  await restored;
  expect((await inner.read())?.document).toEqual(newer);
});

test("RULE-7: an outage of the store is reported once, whatever changes in the folder of the rules file", async () => {
  const { folder, path } = await rulesFolder();
  const store = new MemoryDocumentStore();
  const read = store.read.bind(store);
  let [reads, reports] = [0, 0];
  let isAway = false;
  store.read = async () => {
    reads++;
    if (isAway) throw brokerUnavailable("the message store does not answer");
    return read();
  };
  const logger = Object.create(quietLogger, { error: { value: () => reports++ } }) as Logger;
  const currentRules = new CurrentRules({ store, errors: quietErrors, logger: quietLogger });
  const file = new RulesFile({ store, errors: quietErrors, logger, path, currentRules, environment: {} });
  await file.start();
  onTestFinished(() => file.stop());
  let changes = 0;
  const change = async (): Promise<void> => {
    const before = reads;
    await writeFile(join(folder, `log-${changes++}`), "");
    await eventually(() => reads > before);
  };
  isAway = true;
  for (let n = 0; n < 3; n++) await change();
  await eventually(() => reports === 1);
  isAway = false;
  await change();
  isAway = true;
  for (let n = 0; n < 3; n++) await change();
  await eventually(() => reports === 2);
});
