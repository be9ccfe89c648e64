import { mkdtemp, rename, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { RulesFile } from "../../private-api/documents/rules-file.ts";
import { MemoryDocumentStore } from "../../shared/documents/memory.ts";
import { CurrentRules } from "../../shared/rules/current-rules.ts";
import { eventually } from "../support/eventually.ts";
import { quietErrors, quietLogger } from "../support/logger.ts";

test("RULE-7: a rules file that is away for a moment and returns unchanged leaves no finding", async () => {
  const folder = await mkdtemp(join(tmpdir(), "tidegate-rules-file-"));
  onTestFinished(() => rm(folder, { recursive: true }));
  const [path, away] = [join(folder, "rules.json"), join(folder, "away")];
  await writeFile(path, JSON.stringify({ namespaces: { room: { historySize: 5 } } }));
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
