/** A user whom the application has unsubscribed from more than a thousand channels. */
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import { type Fleet, startFleet } from "../support/fleet.ts";
import { type RedisServer, startRedis } from "../support/redis.ts";
import { closeClients, connectClient } from "../support/stock-client.ts";

let redis: RedisServer;
let fleet: Fleet;
beforeAll(async () => {
  redis = await startRedis();
  fleet = await startFleet({ target: { kind: "standalone", url: redis.url } });
});
afterEach(closeClients);
afterAll(async () => {
  await fleet.stop();
  await redis.stop();
});

test.each([10, 1_001])(
  "PERM-3: a resume does not restore a channel that was unsubscribed meanwhile (%i channels)",
  async (count) => {
    const sub = `user-${count}`;
    const claims = { sub, channels: ["room:*"], iat: Math.floor(Date.now() / 1_000) - 60 };
    const url = fleet.urls[0] ?? "";
    const client = await connectClient(url, claims);
    const channels = Array.from({ length: count }, (_, at) => `room:${at}`);
    const last = channels.at(-1) ?? "";
    expect((await client.subscribe(last)).ok).toBe(true);
    client.socket.io.engine.close();
    await client.disconnected;
    for (let at = 0; at < count; at += 50) {
      const some = channels.slice(at, at + 50);
      const answers = await Promise.all(
        some.map(async (channel) => fleet.api("POST", `/v1/users/${sub}/unsubscribe`, { channel })),
      );
      expect(new Set(answers.map(({ status }) => status))).toEqual(new Set([202]));
    }
    const again = await connectClient(url, claims, { resume: client.welcome.resumeToken, token: undefined });
    expect(again.welcome.resumed).toBe(true);
    expect(await again.request("sync:subscribe", { channel: last })).toMatchObject({
      ok: false,
      error: { code: "channel_not_allowed" },
    });
  },
);
