/** What the demo prints once it runs. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { spawnProcess } from "../support/processes.ts";

const ports = { GATEWAY_PORT: "0", GATEWAY_ADMIN_PORT: "0", PRIVATE_API_PORT: "0", BOARD_PORT: "0" };

test("DEMO-1: it shows a webhook only where the rules have its source", async () => {
  const folder = mkdtempSync(join(tmpdir(), "tidegate-demo-"));
  onTestFinished(() => rmSync(folder, { recursive: true }));
  const file = join(folder, "rules.yaml");
  writeFileSync(file, "namespaces: { board: {} }\n");
  for (const rules of [{}, { RULES_FILE: file }]) {
    const demo = spawnProcess(process.execPath, ["examples/board/start.ts"], { env: { ...ports, ...rules } });
    onTestFinished(() => demo.kill("SIGKILL"));
    await demo.printed("Stop with Ctrl-C.");
    expect(demo.output().includes("/hooks/notice")).toBe(!("RULES_FILE" in rules));
    expect(demo.output()).not.toContain("\n\n\n");
  }
});
