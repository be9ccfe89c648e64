/** Which setting a failed start is blamed on; test/unit/settings.test.ts starts programs that fail. */
import { readFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { expect, test } from "vitest";
import { explainStartFailure } from "../../shared/runtime/start-failure.ts";

const settings = { RULES_FILE: "rules.yaml", JOURNAL_DIR: "/journal" };

test("SET-8: a folder in place of another file is not blamed on RULES_FILE", async () => {
  const error = await readFile(tmpdir()).catch((cause: unknown) => new Error("a file cannot be read", { cause }));
  expect((error as Error).cause).toMatchObject({ code: "EISDIR" });
  expect(explainStartFailure(error, settings)).toBeUndefined();
});
