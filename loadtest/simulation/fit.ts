/**
 * Measures the CPU costs of a node and writes them to figures.json, which the simulation reads.
 *
 *   npm run simulation -- fit
 *
 * Runs a real gateway with a real Redis. A cost is the CPU time of the gateway's process, user and system, divided by the
 * number of operations; the median of three rounds counts. Takes about two minutes.
 */
import { once } from "node:events";
import { writeFile } from "node:fs/promises";
import { connect } from "node:net";
import { cpus, release } from "node:os";
import { setTimeout as pause } from "node:timers/promises";
import { nextAddress } from "../../test/support/next-address.ts";
import { RawClient } from "../../test/support/raw-client.ts";
import { upgradeRequest } from "../../test/support/raw-websocket.ts";
import { Fleet, type OwnDeployment } from "../rig/fleet.ts";
import { loadToken } from "../clients/load-token.ts";
import { callPrivateApi, putRules } from "../rig/private-api.ts";
import { say } from "../rig/scenario.ts";
import { processUsage } from "../checks/usage.ts";
import { type Figures, figuresFile } from "./figures.ts";

const rounds = 3;
const handshakes = 2_000;
const refusals = 4_000;
const turnedAway = 4_000;
/** The gate makes some dials wait for up to two seconds; the others must come meanwhile. */
const turnedAwayAtOnce = 1_000;
const atOnce = 50;
const readers = 1_000;
const publications = 200;
const idleConnections = 3_000;
const idleSeconds = 30;
/** No handshake is refused for the rate. */
const unbounded = { GATEWAY_ADMISSIONS_PER_SECOND: "1000000" };

interface Cost {
  readonly gatewayMicros: number;
  readonly redisMicros: number;
}

async function main(): Promise<void> {
  const sessions = await withFleet(unbounded, measureSessions);
  const refusalMicros = await withFleet({ ...unbounded, GATEWAY_MAX_CONNECTIONS: "1" }, measureRefusals);
  const turnedAwayMicros = await withFleet({ GATEWAY_ADMISSIONS_PER_SECOND: "1" }, measureTurnedAway);
  const figures: Figures = {
    conditions: {
      date: new Date().toISOString().slice(0, 10),
      cpu: cpus()[0]?.model ?? "unknown",
      cores: cpus().length,
      linux: release(),
      node: process.versions.node,
      handshakes: handshakes * rounds,
      note: "loopback, no TLS, websocket only, Redis without persistence, one channel per client; medians",
    },
    costs: {
      coldMicros: sessions.cold.gatewayMicros,
      resumeMicros: sessions.resume.gatewayMicros,
      refusalMicros,
      turnedAwayMicros,
      deliveryMicros: sessions.deliveryMicros,
      idleMicrosPerSecond: sessions.idleMicrosPerSecond,
    },
    redis: { coldMicros: sessions.cold.redisMicros, resumeMicros: sessions.resume.redisMicros },
  };
  await writeFile(figuresFile, `${JSON.stringify(figures, undefined, 2)}\n`);
  process.stdout.write(`${JSON.stringify(figures, undefined, 2)}\n`);
}

async function withFleet<T>(settings: Record<string, string>, measure: (of: OwnDeployment) => Promise<T>): Promise<T> {
  const fleet = new Fleet();
  try {
    const deployment = await fleet.start({ gateways: 1, gatewaySettings: settings });
    await putRules(deployment, { namespaces: { room: { access: "user" } } });
    return await measure(deployment);
  } finally {
    await fleet.stop();
  }
}

async function measureSessions(deployment: OwnDeployment) {
  const url = urlOf(deployment);
  const begin = async (number: number, token?: string, auth?: { resume: string }): Promise<RawClient> => {
    const client = await RawClient.connect(url, token, auth);
    await client.subscribe(`room:${number % 50}`);
    return client;
  };
  const tokens = await Promise.all(Array.from({ length: handshakes }, async (_, i) => tokenFor(deployment, i)));
  say("warming up");
  closeAll(await inBatches(handshakes, async (i) => begin(i, tokens[i])));
  const cold: Cost[] = [];
  const resume: Cost[] = [];
  for (let round = 1; round <= rounds; round++) {
    say(`cold connects and resumes, round ${round} of ${rounds}`);
    let clients: RawClient[] = [];
    cold.push(
      await costOf(deployment, handshakes, async () => {
        clients = await inBatches(handshakes, async (i) => begin(i, tokens[i]));
      }),
    );
    closeAll(clients);
    const resumeTokens = clients.map(({ welcome }) => welcome.resumeToken ?? "");
    await pause(500);
    resume.push(
      await costOf(deployment, handshakes, async () => {
        clients = await inBatches(handshakes, async (i) => begin(i, undefined, { resume: resumeTokens[i] ?? "" }));
      }),
    );
    closeAll(clients);
    await pause(500);
  }
  say("deliveries");
  const following = await inBatches(readers, async (i) => {
    const client = await RawClient.connect(url, tokens[i]);
    await client.subscribe("room:all");
    return client;
  });
  const deliveries: number[] = [];
  for (let round = 0; round < rounds; round++) {
    let received = 0;
    for (const client of following) client.onEvent = () => void received++;
    const { gatewayMicros } = await costOf(deployment, readers * publications, async () => {
      for (let number = 0; number < publications; number++) await publish(deployment);
      while (received < readers * publications) await pause(20);
    });
    deliveries.push(gatewayMicros);
  }
  closeAll(following);
  const idleMicrosPerSecond = await measureIdle(deployment, url);
  return { cold: median(cold), resume: median(resume), deliveryMicros: middle(deliveries), idleMicrosPerSecond };
}

/** Subtracts the cost of a gateway without connections. */
async function measureIdle(deployment: OwnDeployment, url: URL): Promise<number> {
  say(`${idleConnections} idle connections for ${idleSeconds} s`);
  await pause(1_000);
  const rest = async (): Promise<Cost> => costOf(deployment, idleSeconds, async () => pause(idleSeconds * 1_000));
  const alone = await rest();
  const clients = await inBatches(idleConnections, async (i) => RawClient.connect(url, await tokenFor(deployment, i)));
  await pause(2_000);
  const { gatewayMicros } = await rest();
  closeAll(clients);
  // Stays above 0, which figures.json demands, whatever the noise.
  return rounded(Math.max(0.1, (gatewayMicros - alone.gatewayMicros) / idleConnections));
}

/** Refused handshakes of a node at its cap. */
async function measureRefusals(deployment: OwnDeployment): Promise<number> {
  const url = urlOf(deployment);
  const token = await tokenFor(deployment, 0);
  const holder = await RawClient.connect(url, token);
  const refuse = async (): Promise<unknown> =>
    inBatches(refusals, async () => RawClient.connect(url, token, {}, { localAddress: nextAddress() }).catch(() => 0));
  await refuse();
  const micros: number[] = [];
  for (let round = 1; round <= rounds; round++) {
    say(`refusals in band, round ${round} of ${rounds}`);
    micros.push((await costOf(deployment, refusals, refuse)).gatewayMicros);
  }
  closeAll([holder]);
  return middle(micros);
}

/** 503 at the upgrade, above the upgrade rate. The few upgrades that pass count, too. */
async function measureTurnedAway(deployment: OwnDeployment): Promise<number> {
  const url = urlOf(deployment);
  let answered503 = 0;
  const dial = async (): Promise<void> => {
    const socket = connect({ port: Number(url.port), host: url.hostname, localAddress: nextAddress() });
    socket.on("error", () => socket.destroy());
    socket.write(upgradeRequest(url));
    const answer = once(socket, "data").then(
      ([first]) => String(first),
      () => "",
    );
    const gone = once(socket, "close").then(() => "");
    if ((await Promise.race([answer, gone])).includes(" 503 ")) answered503++;
    socket.destroy();
  };
  const dialAll = async (): Promise<unknown> => inBatches(turnedAway, dial, turnedAwayAtOnce);
  await dialAll();
  const micros: number[] = [];
  for (let round = 1; round <= rounds; round++) {
    say(`503 at the upgrade, round ${round} of ${rounds}`);
    micros.push((await costOf(deployment, turnedAway, dialAll)).gatewayMicros);
  }
  say(`${answered503} of ${turnedAway * (rounds + 1)} dials got 503`);
  return middle(micros);
}

async function costOf({ processes }: OwnDeployment, times: number, run: () => Promise<unknown>): Promise<Cost> {
  const cpuMs = (role: string): number =>
    processes.reduce((sum, server) => sum + (server.role === role ? (processUsage(server.pid)?.cpuMs ?? 0) : 0), 0);
  const [gateway, redis] = [cpuMs("gateway"), cpuMs("redis")];
  await run();
  return {
    gatewayMicros: rounded(((cpuMs("gateway") - gateway) * 1_000) / times),
    redisMicros: rounded(((cpuMs("redis") - redis) * 1_000) / times),
  };
}

async function inBatches<T>(count: number, run: (number: number) => Promise<T>, size = atOnce): Promise<T[]> {
  const results: T[] = [];
  for (let from = 0; from < count; from += size) {
    const batch = Array.from({ length: Math.min(size, count - from) }, async (_, i) => run(from + i));
    results.push(...(await Promise.all(batch)));
  }
  return results;
}

function closeAll(clients: readonly RawClient[]): void {
  for (const { socket } of clients) socket.destroy();
}

async function publish(deployment: OwnDeployment): Promise<void> {
  const item = { channel: "room:all", event: "fit.tick", data: { filler: "x".repeat(64) } };
  await callPrivateApi(deployment, "POST", "/v1/publish", item);
}

async function tokenFor({ jwtSecret }: OwnDeployment, number: number): Promise<string> {
  return loadToken(jwtSecret, `fit-${number}`);
}

function urlOf({ gatewayUrls }: OwnDeployment): URL {
  return new URL((gatewayUrls[0] ?? "").replace("ws", "http"));
}

function median(costs: readonly Cost[]): Cost {
  return {
    gatewayMicros: middle(costs.map(({ gatewayMicros }) => gatewayMicros)),
    redisMicros: middle(costs.map(({ redisMicros }) => redisMicros)),
  };
}

function middle(values: readonly number[]): number {
  return values.toSorted((one, other) => one - other)[Math.floor(values.length / 2)] ?? Number.NaN;
}

function rounded(value: number): number {
  return Number(value.toPrecision(3));
}

await main();
