import { expect, test } from "vitest";
import { CurrentDocument } from "../../shared/documents/current-document.ts";
import type { DocumentStore, StoredDocument } from "../../shared/documents/contract.ts";
import { InvalidDocument } from "../../shared/runtime/invalid-document.ts";
import { quietErrors, quietLogger } from "../support/logger.ts";

const versionOf = (version: number, document: string): StoredDocument => ({ version, changedAt: version, document });

test("RULE-2: findings of a version end where the store loses it", async () => {
  let stored: StoredDocument | undefined;
  const current = new CurrentDocument({
    name: "rules",
    store: { read: async () => stored } as DocumentStore,
    none: { version: 0 },
    read: ({ version, document }) => {
      if (document === "bad") throw new InvalidDocument("rules", ["is bad"]);
      return { version };
    },
    errors: quietErrors,
    logger: quietLogger,
  });
  const seen: unknown[] = [];
  for (stored of [versionOf(1, "good"), versionOf(2, "bad"), versionOf(1, "good"), versionOf(3, "bad"), undefined]) {
    await current.refresh();
    seen.push([current.value.version, current.findings]);
  }
  expect(seen).toEqual([
    [1, []],
    [1, ["is bad"]],
    [1, []],
    [1, ["is bad"]],
    [1, []],
  ]);
});
