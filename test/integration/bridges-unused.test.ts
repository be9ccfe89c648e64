/** In a file of its own: nothing else of its process may load the adapters. */
import { createRequire } from "node:module";
import { Redis } from "ioredis";
import { afterAll, beforeAll, expect, test } from "vitest";
import { eventually } from "../support/eventually.ts";
import { type Fleet, startFleet } from "../support/fleet.ts";
import { type RedisServer, startRedis } from "../support/redis.ts";

const { cache } = createRequire(import.meta.url);

let oldRedis: RedisServer;
let admin: Redis;
let fleet: Fleet;

beforeAll(async () => {
  oldRedis = await startRedis();
  admin = new Redis(oldRedis.url);
  fleet = await startFleet({ gateways: 0, environment: { LEGACY_REDIS_URL: oldRedis.url } });
});
afterAll(async () => {
  await fleet.stop();
  admin.disconnect();
  await oldRedis.stop();
});

function adaptersLoaded(): string[] {
  return Object.keys(cache).filter((file) => file.includes("/@socket.io/redis-"));
}

async function connections(): Promise<number> {
  return String(await admin.client("LIST"))
    .trim()
    .split("\n").length;
}

test("BRI-11: without a bridge in the rules no adapter is loaded and no connection opened", async () => {
  expect(adaptersLoaded()).toEqual([]);
  expect(await connections()).toBe(1);
  expect((await fleet.api("GET", "/readyz")).body["checks"]).not.toHaveProperty("bridges");
  expect((await fleet.api("GET", "/v1/bridges")).body).toEqual({ bridges: [] });
  const bridge = { redis: "env:LEGACY_REDIS_URL", adapter: "classic", rooms: { "a-{id}": "a:{id}" }, direction: "in" };
  await fleet.api("PUT", "/v1/rules", { bridges: { legacy: bridge } });
  await eventually(async () => adaptersLoaded().length > 0 && (await connections()) > 1);
  await fleet.api("PUT", "/v1/rules", {});
  await eventually(async () => (await connections()) === 1);
});
