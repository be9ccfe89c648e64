/** The checker as a command, against a deployment. */
import { join } from "node:path";
import { Redis } from "ioredis";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { CheckerReport } from "../../loadtest/checker/report.ts";
import { eventually } from "../support/eventually.ts";
import { type Fleet, jwtSecret, startFleet, tokens } from "../support/fleet.ts";
import { type Spawned, spawnProcess } from "../support/processes.ts";
import { type RedisServer, startRedis } from "../support/redis.ts";

const main = join(import.meta.dirname, "../../loadtest/checker/main.ts");
let redis: RedisServer;
let fleet: Fleet;
beforeAll(async () => {
  redis = await startRedis();
  fleet = await startFleet({ target: { kind: "standalone", url: redis.url }, gateways: 2 });
});
afterAll(async () => {
  await fleet.stop();
  await redis.stop();
});

function check(...more: string[]): Spawned {
  const load = ["--clients", "6", "--channels", "2", "--rate", "40", "--drops", "300", "--seconds", "3"];
  const where = ["--gateway", fleet.urls.join(","), "--api", fleet.apiUrl];
  return spawnProcess(process.execPath, [main, ...where, ...load, ...more], {
    env: { PRIVATE_API_TOKEN: tokens.service, AUTH_JWT_SECRET: jwtSecret },
  });
}

test("SYNC-1: the checker finds no violation for clients that reconnect between two nodes", async () => {
  const checker = check();
  expect([await checker.exited, checker.output()]).toEqual([0, expect.stringContaining("PASS")]);
});

test("the checker exits with 1 where acknowledged publications are gone, and names them", async () => {
  const checker = check("--json", "--seconds", "6");
  // A hundred: something is published on both channels.
  await eventually(() => /[1-9]\d{2,} deliveries/.test(checker.output()));
  const raw = new Redis(redis.url);
  await raw.flushall();
  raw.disconnect();
  expect(await checker.exited).toBe(1);
  const output = checker.output();
  const report = JSON.parse(output.slice(output.indexOf("\n{") + 1)) as CheckerReport;
  expect(report.violations.vanished).toBeGreaterThan(0);
  const { vanished, ...others } = report.violations;
  expect(Object.values(others).every((count) => count === 0)).toBe(true);
  expect(report.channels.every(({ signals, gone }) => signals > 0 && gone > 0)).toBe(true);
  expect(report.channels.reduce((sum, { gone }) => sum + gone, 0)).toBe(vanished);
});

test("the checker lists every bad setting by its flag, and shows no secret", async () => {
  const checker = check("--clients", "0", "--api-token", "", "--jwt-secret", "too-short-to-be-one");
  await eventually(() => checker.output() !== "");
  expect(await checker.exited).toBe(78);
  for (const flag of ["--clients", "--api-token", "--jwt-secret"]) expect(checker.output()).toContain(flag);
  expect(checker.output()).not.toContain("too-short-to-be-one");
});
