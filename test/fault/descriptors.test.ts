/** Programs with a low limit of open files or without a turn of the processor, and peers that connect as often as they can. */
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import { capacityOf } from "../../gateway/capacity.ts";
import { eventually } from "../support/eventually.ts";
import { jwtSecret, privateApiTokens, tokens } from "../support/fleet.ts";
import { startPrivateApi } from "../support/private-api.ts";
import { freePort, type Spawned, spawnProcess } from "../support/processes.ts";
import { openRaw, type RawConnection, requestHead } from "../support/raw-http.ts";
import { type RedisServer, startRedis } from "../support/redis.ts";
import { closeClients, connectClient } from "../support/stock-client.ts";

const filesLimit = 256;
const flood = 600;

let redis: RedisServer;
const running: Spawned[] = [];
const opened: RawConnection[] = [];
beforeAll(async () => {
  redis = await startRedis();
});
afterEach(async () => {
  closeClients();
  for (const { socket } of opened.splice(0)) socket.destroy();
  for (const program of running.splice(0)) {
    program.kill("SIGKILL");
    await program.exited;
  }
});
afterAll(() => redis.stop());

function start(program: string, env: Record<string, string>, limit = `ulimit -n ${filesLimit}`): Spawned {
  const command = `${limit} && exec "$0" ${program}/main.ts`;
  const spawned = spawnProcess("sh", ["-c", command, process.execPath], { env: { REDIS_URL: redis.url, ...env } });
  running.push(spawned);
  return spawned;
}

async function isAlive(port: number): Promise<boolean> {
  const answer = await fetch(`http://127.0.0.1:${port}/livez`).catch(() => undefined);
  return answer?.status === 200;
}

/** Without rules a gateway begins no session. */
async function putRules(rules: object): Promise<void> {
  const privateApi = await startPrivateApi({ kind: "standalone", url: redis.url });
  const answer = await fetch(`${privateApi.url}/v1/rules`, {
    method: "PUT",
    headers: { authorization: `Bearer ${tokens.service}`, "content-type": "application/json" },
    body: JSON.stringify(rules),
  });
  await privateApi.stop();
  if (!answer.ok) throw new Error(await answer.text());
}

/** More connections than open files: silent, with half a head or half a body, or asking for a websocket. */
function floodDoor(port: number): RawConnection[] {
  const upgrade = ["Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: AAAA"];
  const texts = [
    "",
    "GET / HTTP/1.1\r\nHost: te",
    `${requestHead("POST", "/v1/publish", ["Content-Type: application/json", "Content-Length: 1000"])}{"a":`,
    `${requestHead("POST", "/socket.io/?EIO=4&transport=websocket", ["Content-Length: 1000"])}x`,
    requestHead("GET", "/elsewhere", upgrade),
  ];
  return Array.from({ length: flood }, (_, i) => openRaw(port, texts[i % texts.length] ?? "", "127.0.0.2"));
}

test("FILE-1: a gateway with few open files survives a flood and serves an honest client", async () => {
  await putRules({});
  const [port, adminPort] = [await freePort(), await freePort()];
  const gateway = start("gateway", {
    GATEWAY_HOST: "127.0.0.1",
    GATEWAY_PORT: String(port),
    GATEWAY_ADMIN_PORT: String(adminPort),
    PRIVATE_API_TOKEN: tokens.relay,
    AUTH_JWT_SECRET: jwtSecret,
  });
  await gateway.printed("gateway listening");
  const warning = JSON.parse(await gateway.printed("the limit of open files is too low")) as Record<string, unknown>;
  const { maxConnections, maxUnseated, wantedFiles } = capacityOf(10_000, filesLimit);
  expect(warning).toMatchObject({ level: 40, limit: filesLimit, needed: wantedFiles, maxConnections, maxUnseated });

  opened.push(...floodDoor(port), ...floodDoor(adminPort));
  for (let i = 0; i < 10; i++) {
    expect(await isAlive(adminPort)).toBe(true);
    await eventually(async () => (await fetch(`http://127.0.0.1:${port}/v1/bootstrap`)).status === 200);
  }
  const client = await connectClient(`http://127.0.0.1:${port}`);
  expect(client.welcome.resumed).toBe(false);
  const metrics = await (await fetch(`http://127.0.0.1:${adminPort}/metrics`)).text();
  expect(metrics).toMatch(/tidegate_door_closed_total\{door="public",reason="crowded"\} \d{2,}/);
  for (const boundary of ["http", "timer", "store"]) {
    expect(metrics).toContain(`tidegate_contained_errors_total{boundary="${boundary}"} 0`);
  }
  // The program itself can still open files.
  expect(Number(/^process_open_fds (\d+)/m.exec(metrics)?.[1])).toBeLessThan(filesLimit);
  expect(gateway.output()).not.toContain("EMFILE");
});

test("FILE-1: a private API with few open files survives a flood, and serves a service", async () => {
  const port = await freePort();
  const privateApi = start("private-api", {
    PRIVATE_API_HOST: "127.0.0.1",
    PRIVATE_API_PORT: String(port),
    PRIVATE_API_TOKENS: JSON.stringify([{ name: "service", token: tokens.service, scopes: ["publish"] }]),
  });
  await privateApi.printed("private API listening");
  await privateApi.printed("the limit of open files is low");
  opened.push(...floodDoor(port));
  for (let i = 0; i < 10; i++) {
    expect(await isAlive(port)).toBe(true);
    const answer = await fetch(`http://127.0.0.1:${port}/v1/publish`, {
      method: "POST",
      headers: { authorization: `Bearer ${tokens.service}`, "content-type": "application/json" },
      body: JSON.stringify({ channel: "board:1", event: "moved", data: i }),
    });
    expect(answer.status).toBe(200);
  }
  expect(privateApi.output()).not.toContain("EMFILE");
});

test("DOOR-12: more connections than Node's 511 arrive while a program is busy, and are answered", async () => {
  const port = await freePort();
  const env = { PRIVATE_API_HOST: "127.0.0.1", PRIVATE_API_PORT: String(port), PRIVATE_API_TOKENS: privateApiTokens };
  const privateApi = start("private-api", env, "true");
  await privateApi.printed("private API listening");
  privateApi.kill("SIGSTOP");
  const crowd = Array.from({ length: 560 }, () => openRaw(port, requestHead("GET", "/livez", ["Connection: close"])));
  opened.push(...crowd);
  await eventually(() => crowd.every(({ socket }) => !socket.connecting && !socket.destroyed));
  privateApi.kill("SIGCONT");
  for (const { closed } of crowd) expect(await closed).toMatch(/^HTTP\/1.1 200 /);
});

test.for([40, 100, 256, 1_024, 4_096, 20_000, 65_536, 1_048_576, Infinity])(
  "FILE-2: with %i open files the doors leave a reserve, and seats have room",
  (limit) => {
    for (const wanted of [1, 100, 1_000, 10_000, 100_000]) {
      const { maxConnections, maxUnseated, publicDoor, adminDoor, wantedFiles } = capacityOf(wanted, limit);
      const reserve = limit - publicDoor.total - adminDoor.total;
      expect(reserve).toBeGreaterThanOrEqual(Math.min(512, limit / 4));
      expect(maxConnections).toBeLessThanOrEqual(wanted);
      expect(maxConnections + 2 * maxUnseated).toBeLessThanOrEqual(publicDoor.total);
      expect(Math.min(maxConnections, maxUnseated, adminDoor.total)).toBeGreaterThan(0);
      if (wantedFiles > limit) continue;
      expect(maxConnections).toBe(wanted);
      expect(maxUnseated).toBe(Math.max(1_000, Math.floor(wanted / 2)));
    }
  },
);
