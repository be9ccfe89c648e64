/** The chat of examples/socketio-chat moves from plain Socket.IO servers to Tidegate and back, while people write. */
import { readFile } from "node:fs/promises";
import type { Server } from "node:http";
import type { AddressInfo } from "node:net";
import { afterAll, beforeAll, expect, test } from "vitest";
import { parse } from "yaml";
import { ChatClient } from "../../examples/socketio-chat/client.ts";
import { type OldChatServer, startOldChat } from "../../examples/socketio-chat/old-server.ts";
import { createChatService } from "../../examples/socketio-chat/service.ts";
import { eventually } from "../support/eventually.ts";
import { type Fleet, jwtSecret, serviceSecret, startFleet, tokens } from "../support/fleet.ts";
import { type PrivateApiProcess, spawnPrivateApi } from "../support/private-api-process.ts";
import type { Spawned } from "../support/processes.ts";
import { type RedisServer, startRedis } from "../support/redis.ts";
import { repeat } from "../support/repeat.ts";
import { userToken } from "../support/stock-client.ts";

const people = 12;

let redis: RedisServer;
let oldRedis: RedisServer;
let old: OldChatServer;
let fleet: Fleet;
let service: Server;
let bridgeRunners: { process: Spawned; url: string }[];

beforeAll(async () => {
  [redis, oldRedis] = await Promise.all([startRedis(), startRedis()]);
  old = await startOldChat({ redisUrl: oldRedis.url, jwtSecret, port: 0 });
  // The bridge runs in processes of its own.
  fleet = await startFleet({
    target: { kind: "standalone", url: redis.url },
    gateways: 2,
    environment: { DISPATCH_CONCURRENCY: "0", CHAT_SECRET: serviceSecret, LEGACY_REDIS_URL: oldRedis.url },
  });
  service = createChatService({
    secret: serviceSecret,
    privateApiUrl: fleet.apiUrl,
    publishToken: tokens.service,
  });
  await new Promise<void>((resolve) => service.listen(0, "127.0.0.1", resolve));
  const { port } = service.address() as AddressInfo;
  const rules = parse(await readFile("examples/socketio-chat/rules.yaml", "utf8")) as { services: object };
  const services = { chat: { url: `http://127.0.0.1:${port}`, secret: "env:CHAT_SECRET" } };
  await fleet.api("PUT", "/v1/rules", { ...rules, services });
  bridgeRunners = await Promise.all([startRunner(), startRunner()]);
  await eventually(async () => (await bridgeState()) === "live");
});
afterAll(async () => {
  for (const { process } of bridgeRunners) process.kill("SIGKILL");
  service.close();
  await fleet.stop();
  await old.stop();
  await Promise.all([redis.stop(), oldRedis.stop()]);
});

async function startRunner(): Promise<PrivateApiProcess> {
  return spawnPrivateApi({
    REDIS_URL: redis.url,
    LEGACY_REDIS_URL: oldRedis.url,
    CHAT_SECRET: serviceSecret,
  });
}

async function bridgeState(): Promise<unknown> {
  const { body } = await fleet.api("GET", "/v1/bridges");
  return (body["bridges"] as { state: string }[])[0]?.state;
}

/** Kills the process that runs the bridge. Resolves once the other one does. */
async function killBridge(): Promise<void> {
  const isUp = async ({ url }: { url: string }): Promise<boolean> =>
    (await (await fetch(`${url}/metrics`)).text()).includes('tidegate_bridge_up{bridge="legacy"} 1');
  const [one, other] = bridgeRunners as [{ process: Spawned; url: string }, { process: Spawned; url: string }];
  const [killed, left] = (await isUp(one)) ? [one, other] : [other, one];
  killed.process.kill("SIGKILL");
  await eventually(() => isUp(left));
}

async function rollOut(percent: number): Promise<void> {
  const answer = await fleet.api("PUT", "/v1/rollouts", {
    groups: [{ name: "tidegate", percent, config: { transport: "tidegate" } }],
    fallback: { name: "old", url: old.url, config: { transport: "old" } },
  });
  expect(answer.status).toBe(200);
}

/** Everybody asks the bootstrap again until as many as expected are on the new side. */
async function everybodyFollows(
  clients: readonly ChatClient[],
  expected: (onTidegate: number) => boolean,
): Promise<void> {
  await eventually(async () => {
    await Promise.all(
      clients.map(async (client) => {
        const before = client.side;
        // A refused connection is tried again. A move that fails half-way ends the test.
        await client.follow().catch((error: unknown) => {
          if (client.side !== before) throw error;
        });
      }),
    );
    return expected(clients.filter(({ side }) => side === "tidegate").length);
  });
}

test("BRI-13: a rollout from 0 to 100 percent and back, while people write, loses no acknowledged message", async () => {
  await rollOut(0);
  const [gateway = ""] = fleet.urls;
  const seen = Array.from({ length: people }, (): string[] => []);
  /** By text, how many people have seen it. */
  const arrivals = new Map<string, number>();
  const clients = await Promise.all(
    seen.map(async (texts, n) => {
      const token = await userToken({ sub: `person-${n}`, channels: ["chat:*"] });
      return new ChatClient({
        ...{ bootstrapUrl: gateway, token, room: "tea" },
        onMessage: ({ text }) => {
          texts.push(text);
          arrivals.set(text, (arrivals.get(text) ?? 0) + 1);
        },
      });
    }),
  );
  await everybodyFollows(clients, (onTidegate) => onTidegate === 0);

  const acknowledged = { old: [] as string[], tidegate: [] as string[] };
  let takeovers = 0;
  const writing = clients.map((client, n) =>
    repeat(async ({ length }) => {
      const text = `${n} ${length}`;
      const before = takeovers;
      acknowledged[await client.send(text)].push(text);
      // Each person writes again once everybody has the message, or once the bridge that may have lost it is replaced.
      await eventually(() => arrivals.get(text) === people || takeovers > before);
    }),
  );
  const hasWritten = async (side: "old" | "tidegate"): Promise<void> => {
    const before = acknowledged[side].length;
    await eventually(() => acknowledged[side].length > before + people);
  };

  await hasWritten("old");
  await rollOut(50);
  await everybodyFollows(clients, (onTidegate) => onTidegate > 0 && onTidegate < people);
  await hasWritten("tidegate");
  await hasWritten("old");
  await killBridge();
  takeovers++;
  // What was on its way while no bridge had joined is acknowledged by then.
  await hasWritten("old");
  const sentOldBefore = acknowledged.old.length;
  await hasWritten("old");
  await rollOut(100);
  await everybodyFollows(clients, (onTidegate) => onTidegate === people);
  await old.stop();
  old = await startOldChat({ redisUrl: oldRedis.url, jwtSecret, port: 0 });
  await hasWritten("tidegate");
  await rollOut(0);
  await everybodyFollows(clients, (onTidegate) => onTidegate === 0);
  await hasWritten("old");
  await Promise.all(writing.map(async (each) => each.stop()));

  const last = acknowledged.old.slice(-people);
  for (const texts of seen) await eventually(() => last.every((text) => texts.includes(text)));
  for (const [n, texts] of seen.entries()) {
    expect(new Set(texts).size, `person ${n} sees each message once`).toBe(texts.length);
    const missed = acknowledged.tidegate.filter((text) => !texts.includes(text));
    expect(missed, `missed by person ${n}`).toEqual([]);
    // A takeover of the bridge may lose messages of the old side on their way to clients of the new one.
    const missedOfOld = acknowledged.old.filter((text) => !texts.includes(text));
    expect(missedOfOld.every((text) => acknowledged.old.indexOf(text) < sentOldBefore)).toBe(true);
  }
  for (const client of clients) client.leave();
});
