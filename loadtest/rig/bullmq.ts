/** BullMQ, to compare with. Installed into a temporary folder, so that the project does not depend on it. */
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";

export const bullMqVersion = "6.7.0";

interface Connection {
  readonly host: string;
  readonly port: number;
}

/** The part of its API that the comparison uses. */
interface Queue {
  addBulk(jobs: readonly { name: string; data: unknown; opts: { removeOnComplete: boolean } }[]): Promise<unknown>;
  close(): Promise<void>;
}

interface Worker {
  on(event: "error", listener: (error: Error) => void): void;
  waitUntilReady(): Promise<unknown>;
  /** Resolves once the jobs under way are completed. */
  close(): Promise<void>;
}

export interface BullMq {
  readonly Queue: new (name: string, options: { connection: Connection }) => Queue;
  readonly Worker: new (
    name: string,
    work: () => Promise<void>,
    options: { connection: Connection; concurrency: number },
  ) => Worker;
}

/** Takes about ten seconds and needs the npm registry. */
export function installBullMq(): BullMq {
  const folder = mkdtempSync(join(tmpdir(), "tidegate-bullmq-"));
  process.once("exit", () => rmSync(folder, { recursive: true, force: true }));
  const flags = ["--no-audit", "--no-fund", "--ignore-scripts", "--silent"];
  const packages = [`bullmq@${bullMqVersion}`, "ioredis@6.0.0"];
  execFileSync("npm", ["install", "--prefix", folder, ...flags, ...packages], {
    stdio: ["ignore", "ignore", "inherit"],
  });
  return createRequire(join(folder, "package.json"))("bullmq") as BullMq;
}
