import { mkdtemp, rename, rm, stat, writeFile } from "node:fs/promises";
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

const rulesWith = (historySize: number): object => ({ namespaces: { room: { historySize } } });

/** With a rules file in it. */
async function rulesFolder(historySize = 5): Promise<{ folder: string; path: string }> {
  const folder = await mkdtemp(join(tmpdir(), "tidegate-rules-file-"));
  onTestFinished(() => rm(folder, { recursive: true }));
  const path = join(folder, "rules.json");
  await writeFile(path, JSON.stringify(rulesWith(historySize)));
  return { folder, path };
}

/** What several processes share. Its data can be replaced, as by a failover. */
class ReplacedStore {
  data = new MemoryDocumentStore();

  /** @returns what makes it read the file again, as after any change in its folder; resolves once it has. */
  async startFile({ folder, path }: { folder: string; path: string }): Promise<() => Promise<void>> {
    let reads = 0;
    const store: DocumentStore = {
      start: async () => undefined,
      stop: async () => undefined,
      onChange: () => undefined,
      read: async () => {
        reads++;
        return this.data.read();
      },
      put: async (request) => this.data.put(request),
    };
    const common = { errors: quietErrors, logger: quietLogger };
    const currentRules = new CurrentRules({ ...common, store: new MemoryDocumentStore() });
    const file = new RulesFile({ ...common, store, path, currentRules, environment: {} });
    await file.start();
    onTestFinished(() => file.stop());
    let changes = 0;
    return async () => {
      // One at a time: once it has begun the second time, it has finished the first.
      for (let n = 0; n < 2; n++) {
        const before = reads;
        await writeFile(join(folder, `other-${changes++}`), "");
        await eventually(() => reads > before);
      }
    };
  }

  async document(): Promise<unknown> {
    return (await this.data.read())?.document;
  }
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

test("RULE-9: a store that lost the latest rules in a failover, and has those before, gets those of the file again", async () => {
  const folder = await rulesFolder(5);
  const store = new ReplacedStore();
  const readAgain = await store.startFile(folder);
  const { changedAt = 0 } = (await store.data.read()) ?? {};
  await eventually(() => Date.now() > changedAt);
  await writeFile(folder.path, JSON.stringify(rulesWith(6)));
  await eventually(async () => (await store.data.read())?.version === 2);
  store.data = new MemoryDocumentStore();
  await store.data.put({ document: rulesWith(5), changedAt });
  await readAgain();
  expect(await store.document()).toEqual(rulesWith(6));
});

test("RULE-9: a store that lost all gets the newest of several files again, whichever process looks first", async () => {
  const [older, newer] = [await rulesFolder(5), await rulesFolder(6)];
  const store = new ReplacedStore();
  const readOlderAgain = await store.startFile(older);
  const { changedAt = 0 } = (await store.data.read()) ?? {};
  await eventually(async () => {
    await writeFile(newer.path, JSON.stringify(rulesWith(6)));
    return Math.floor((await stat(newer.path)).ctimeMs) > changedAt;
  });
  const readNewerAgain = await store.startFile(newer);
  expect(await store.document()).toEqual(rulesWith(6));
  store.data = new MemoryDocumentStore();
  await readOlderAgain();
  await readNewerAgain();
  expect(await store.document()).toEqual(rulesWith(6));
  await readOlderAgain();
  expect(await store.document()).toEqual(rulesWith(6));
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
