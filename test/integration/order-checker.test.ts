/** The order checker as a command, against a deployment. */
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { OrderReport } from "../../loadtest/order/report.ts";
import { eventually } from "../support/eventually.ts";
import { type Fleet, jwtSecret, serviceSecret, startFleet, tokens } from "../support/fleet.ts";
import { freePort, type Spawned, spawnProcess } from "../support/processes.ts";
import { command } from "../support/redis-cluster.ts";
import { type RedisServer, startRedis } from "../support/redis.ts";
import { repeat } from "../support/repeat.ts";

const hookSecret = "a secret of the checker's webhooks";
const main = join(import.meta.dirname, "../../loadtest/checker/main.ts");
let redis: RedisServer;
let fleet: Fleet;
let servicePort: number;
beforeAll(async () => {
  redis = await startRedis();
  servicePort = await freePort();
  const route = { service: "order-checker", path: "/", mode: "enqueue", key: "/key" };
  fleet = await startFleet({
    target: { kind: "standalone", url: redis.url },
    gateways: 2,
    environment: { CHECKER_HOOK_SECRET: hookSecret },
    rules: {
      services: { "order-checker": { url: `http://127.0.0.1:${servicePort}`, secret: serviceSecret } },
      routes: [
        { ...route, event: "order.batch", batch: 5 },
        { ...route, event: "order.*" },
      ],
      sources: {
        checked: {
          ...{ verify: "github", secrets: ["env:CHECKER_HOOK_SECRET"], route: "order.item" },
          ...{ key: "body:/key", id: "header:x-github-delivery" },
        },
      },
    },
  });
});
afterAll(async () => {
  await fleet.stop();
  await redis.stop();
});

function check(...more: string[]): Spawned {
  const where = ["--gateway", fleet.urls.join(","), "--api", fleet.apiUrl, "--service-port", String(servicePort)];
  const load = ["--clients", "4", "--events", "order.item,order.batch", "--rate", "20", "--drops", "300"];
  return spawnProcess(process.execPath, [main, "order", ...where, ...load, "--seconds", "3", ...more], {
    env: { PRIVATE_API_TOKEN: tokens.service, AUTH_JWT_SECRET: jwtSecret },
  });
}

test("QUE-1: the order checker finds every item in order, from clients that reconnect and from webhooks", async () => {
  const checker = check("--sources", "checked", "--hook-secret", hookSecret);
  expect([await checker.exited, checker.output()]).toEqual([0, expect.stringContaining("PASS")]);
  // Of 4 clients with two events each, and of webhooks to two gateways.
  expect(checker.output()).toContain("items of 10 keys acknowledged");
});

test("the order checker exits with 1 where acknowledged items are gone, and names them", async () => {
  const checker = check("--json", "--seconds", "6", "--settle-seconds", "3");
  await checker.printed("2 s:");
  // Queues vanish with what waits in them, again and again, so that some of them held an item.
  const vanish = "for _, key in ipairs(redis.call('KEYS', '*:queues2:q:*')) do redis.call('DEL', key) end";
  const vanishing = repeat(async () => command(redis, "EVAL", vanish, 0));
  await checker.printed("the last items");
  await vanishing.stop();
  expect(await checker.exited).toBe(1);
  const output = checker.output();
  const report = JSON.parse(output.slice(output.indexOf("\n{") + 1)) as OrderReport;
  expect(report.violations.lost).toBeGreaterThan(0);
  expect(report.keys.filter(({ violations }) => violations.length > 0).length).toBeGreaterThan(0);
});

test("the order checker lists every bad setting by its flag, and shows no secret", async () => {
  const checker = check("--clients", "0", "--events", "a b", "--jwt-secret", "too-short-to-be-one");
  await eventually(() => checker.output() !== "");
  expect(await checker.exited).toBe(78);
  for (const flag of ["--clients", "--events", "--jwt-secret"]) expect(checker.output()).toContain(flag);
  expect(checker.output()).not.toContain("too-short-to-be-one");
});
