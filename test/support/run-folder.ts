/**
 * For a run of the tests: what its workers and their programs leave in `tmpdir()` is removed when the run ends. Compiled code is kept
 * for the next program and the next run: a program's start then takes half of the CPU time.
 */
import { chmodSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

/** Workers inherit the variables. */
export function setup(): void {
  const folder = mkdtempSync(join(tmpdir(), "tidegate-test-"));
  // Others may pass through it, and see nothing: a database that runs as another user reaches its own folder.
  chmodSync(folder, 0o711);
  process.env["TMPDIR"] = folder;
  process.env["NODE_COMPILE_CACHE"] ??= fileURLToPath(new URL("../../node_modules/.cache/compiled", import.meta.url));
  // Programs of a worker that ended just now may still write.
  process.once("exit", () => rmSync(folder, { recursive: true, force: true, maxRetries: 5 }));
}
