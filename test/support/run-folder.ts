/** For a run of the tests: what its workers and their programs leave in `tmpdir()` is removed when the run ends. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** Workers inherit the variable. */
export function setup(): void {
  const folder = mkdtempSync(join(tmpdir(), "tidegate-test-"));
  process.env["TMPDIR"] = folder;
  // Programs of a worker that ended just now may still write.
  process.once("exit", () => rmSync(folder, { recursive: true, force: true, maxRetries: 5 }));
}
