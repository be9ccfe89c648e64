/** Valkey in place of Redis. The contract suites run on it as well. */
import { afterEach, expect, test } from "vitest";
import { checkRedisSetup } from "../../shared/redis/setup.ts";
import { SettingsError } from "../../shared/runtime/settings.ts";
import { allHave, expectRefused } from "../support/broker-health.ts";
import { eventually } from "../support/eventually.ts";
import { type ApiAnswer, type Fleet, startFleet } from "../support/fleet.ts";
import { asked } from "../support/redis-failover.ts";
import type { RedisServer } from "../support/redis.ts";
import { closeClients, connectClient } from "../support/stock-client.ts";
import { startValkey } from "../support/valkey.ts";

let valkey: RedisServer;
let fleet: Fleet | undefined;
afterEach(async () => {
  closeClients();
  await fleet?.stop();
  fleet = undefined;
  await valkey.stop();
});

const channel = "board:1";

async function publish(data: unknown): Promise<ApiAnswer | undefined> {
  return fleet?.api("POST", "/v1/publish", { channel, event: "moved", data });
}

test("RED-11: a fleet on Valkey delivers, resumes, recovers, refuses when full, and survives a restart", async () => {
  valkey = await startValkey({ appendOnly: true });
  const target = { kind: "standalone", url: valkey.url } as const;
  await checkRedisSetup(target);
  const started = (fleet = await startFleet({
    target,
    gateways: 2,
    rules: { namespaces: { board: { presence: true } } },
  }));
  const [one = "", two = ""] = started.urls;
  const clients = [await connectClient(one, { sub: "ada" }), await connectClient(two, { sub: "grace" })] as const;
  for (const client of clients) await client.subscribe(channel);
  expect((await publish("before"))?.body).toMatchObject({ offset: 1 });
  const members = await clients[0].request("sync:presence", { channel });
  expect((members["members"] as { user: string }[]).map(({ user }) => user).toSorted()).toEqual(["ada", "grace"]);

  await asked(valkey, (client) => client.config("SET", "maxmemory", "1"));
  const full = await publish("refused");
  if (full) expectRefused(full);
  await asked(valkey, (client) => client.config("SET", "maxmemory", "0"));
  await asked(valkey, (client) => client.script("FLUSH"));
  expect((await publish("flushed"))?.body).toMatchObject({ offset: 2 });

  await valkey.kill();
  await valkey.restart();
  await eventually(async () => (await publish("after"))?.status === 200);
  await allHave(started, "200 ok");
  for (const client of clients) {
    await client.next(({ data }) => data === "after");
    const moved = client.received.filter(({ event }) => /^moved$|resync/.test(event));
    expect(moved.map(({ data }) => data)).toEqual(["before", "flushed", "after"]);
  }
  const [gone] = clients;
  gone.socket.disconnect();
  const resume = { token: undefined, resume: gone.welcome.resumeToken };
  const again = await connectClient(two, {}, resume);
  expect(again.welcome).toMatchObject({ resumed: true, sessionId: gone.welcome.sessionId });
});

test("RSET-2: a Valkey without its Lua engine is found before the start", async () => {
  valkey = await startValkey({ settings: ["--enable-module-command", "local"] });
  await asked(valkey, (client) => client.call("MODULE", "UNLOAD", "lua"));
  const checked = checkRedisSetup({ kind: "standalone", url: valkey.url });
  await expect(checked).rejects.toEqual(
    new SettingsError(["REDIS_URL: the server runs no Lua scripts: enable EVAL and EVALSHA"]),
  );
});
