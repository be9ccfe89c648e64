/** Compares the simulation with a real fleet: every connection breaks, and the same clients reconnect. */
import { setTimeout as pause } from "node:timers/promises";
import { afterAll, beforeAll, expect, test } from "vitest";
import { RetrySchedule, type RetryHints } from "../../client/src/connection/timing.ts";
import { loadToken } from "../clients/load-token.ts";
import { Fleet, type OwnDeployment } from "../rig/fleet.ts";
import { putRules } from "../rig/private-api.ts";
import { beginSeconds, scenarios } from "./events.ts";
import { readFigures } from "./figures.ts";
import { SeededRandom } from "./random.ts";
import { defaultSettings } from "./settings.ts";
import { Simulation } from "./simulation.ts";
import { tickMs } from "./timers.ts";
import { eventually } from "../../test/support/eventually.ts";
import { answerJson, type HttpService, startService } from "../../test/support/http-service.ts";
import { RawClient, RefusedError } from "../../test/support/raw-client.ts";
import { serviceSecret } from "../../test/support/fleet.ts";

const clients = 2_000;
const budgetPerSecond = 700;
/** Seconds of admissions that an idle node's token bucket holds. */
const bucketSeconds = 1 / 20;
const coldShare = 0.1;
const seed = 7;
/** Largest difference between the two curves, as a share of the reconnecting clients. */
const band = 0.15;
const giveUpMs = 30_000;

let service: HttpService;
let deployment: OwnDeployment;
const fleet = new Fleet();

beforeAll(async () => {
  service = await startService();
  service.answer = (_request, response) => answerJson(response, {});
  deployment = await fleet.start({
    gateways: 2,
    gatewaySettings: { GATEWAY_ADMISSIONS_PER_SECOND: String(budgetPerSecond) },
  });
});
afterAll(async () => {
  await fleet.stop();
  await service.stop();
});

test("clients reconnect as simulated: same curve, same rate, same number of calls", async () => {
  const simulated = simulate();
  const random = new SeededRandom(seed);
  const reconnecting = Array.from({ length: clients }, (_, i) => new ReconnectingClient(i % 2, () => random.next()));
  await putRules(deployment, {
    services: { hooks: { url: service.url, secret: serviceSecret } },
    hooks: { connect: "hooks" },
  });
  await eventually(sharesAreInForce);
  await Promise.all(reconnecting.map(async (client) => client.connect()));
  const callsBefore = service.requests.length;
  expect(callsBefore).toBe(clients);

  for (const client of reconnecting.slice(0, simulated.authCalls)) client.forgetResumeToken();
  const brokenAt = performance.now();
  const backAtMs = await Promise.all(
    reconnecting.map(async (client) => {
      await client.disconnect();
      await client.connect();
      return performance.now() - brokenAt;
    }),
  );
  for (const { client } of reconnecting) client?.socket.destroy();

  expect(simulated.authCalls).toBeGreaterThan(0);
  expect(service.requests.length - callsBefore).toBe(simulated.authCalls);
  const [real, said] = [backAtMs, simulated.backAtMs].map((times) => times.toSorted((one, other) => one - other));
  const curves = `${deciles(real)} and ${deciles(said)}`;
  for (const times of [real, said]) {
    times?.forEach((atMs, before) =>
      expect(before).toBeLessThanOrEqual(budgetPerSecond * (atMs / 1_000 + bucketSeconds)),
    );
  }
  // A busy machine makes all of them late, and none of them early.
  const ahead = real?.filter((atMs, place) => shareBack(said, atMs) < (place + 1) / clients - band).length;
  expect(ahead, `ahead of the simulation: ${curves}`).toBe(0);
  expect(largestDifference(inOwnTime(real), inOwnTime(said)), `shapes: ${curves}`).toBeLessThan(band);
}, 40_000);

/** A client that reconnects as the SDK does, with its schedule and its resume token. */
class ReconnectingClient {
  readonly #url: URL;
  readonly #schedule: RetrySchedule;
  client: RawClient | undefined;
  #welcomedAt = 0;
  #resume: string | undefined;

  constructor(node: number, random: () => number) {
    this.#url = new URL((deployment.gatewayUrls[node] ?? "").replace("ws", "http"));
    this.#schedule = new RetrySchedule(random);
  }

  async disconnect(): Promise<void> {
    this.client?.socket.destroy();
    await this.client?.closed;
  }

  forgetResumeToken(): void {
    this.#resume = undefined;
  }

  /** Resolves once the client is welcome. */
  async connect(): Promise<void> {
    const policy = this.client?.welcome.reconnect;
    const deadline = performance.now() + giveUpMs;
    let setback: RetryHints | undefined = policy && { policy };
    if (policy) this.#schedule.connectionEnded(performance.now() - this.#welcomedAt);
    for (;;) {
      if (setback) await pause(this.#schedule.nextDelayMs(setback));
      if (performance.now() > deadline) throw new Error(`not welcome within ${giveUpMs} ms`);
      try {
        const resume = this.#resume;
        this.client = await (resume === undefined
          ? RawClient.connect(this.#url, await token())
          : RawClient.connect(this.#url, undefined, { resume }));
        this.#resume = this.client.welcome.resumeToken ?? undefined;
        this.#welcomedAt = performance.now();
        return;
      } catch (error) {
        setback = error instanceof RefusedError ? { retryAfterMs: error.refusal.retryAfterMs } : {};
      }
    }
  }
}

/** The registry knows both nodes for long enough to share nearly the whole budget between them. */
async function sharesAreInForce(): Promise<boolean> {
  const { privateApi, privateApiToken } = deployment;
  const answer = await fetch(`${privateApi}/v1/nodes`, { headers: { authorization: `Bearer ${privateApiToken}` } });
  const { nodes } = (await answer.json()) as { nodes: { admissionsPerSecond: number }[] };
  return nodes.reduce((sum, { admissionsPerSecond }) => sum + admissionsPerSecond, 0) > budgetPerSecond * 0.85;
}

async function token(): Promise<string> {
  return loadToken(deployment.jwtSecret, "reconnecting");
}

function simulate(): { backAtMs: number[]; authCalls: number } {
  const shape = { clients, nodes: 2, seed, kind: "full-jitter", budgetPerSecond } as const;
  const settings = {
    ...defaultSettings(shape, readFigures()),
    coldShare,
    deliveriesPerSecond: 0,
    dialMs: { least: 1, most: 10 },
  } as const;
  const large = { ...settings, fleet: { ...settings.fleet, cap: 20_000, connectionsInMemory: 40_000 } };
  const simulation = new Simulation(large, scenarios.balancer.events());
  const backAtMs: number[] = [];
  let away = clients;
  for (let tick = 1; away > 0; tick++) {
    simulation.tick();
    const afterMs = tick * tickMs - beginSeconds * 1_000;
    if (afterMs < 0) continue;
    for (; clients - simulation.crowd.connected < away; away--) backAtMs.push(afterMs);
    if (afterMs > giveUpMs) throw new Error(`not back within ${giveUpMs} ms`);
  }
  return { backAtMs, authCalls: simulation.auth.calls };
}

function shareBack(backAt: readonly number[] = [], at: number): number {
  const later = backAt.findIndex((other) => other > at);
  return (later === -1 ? backAt.length : later) / backAt.length;
}

/** In units of the time from the first tenth to the last, which removes the speed of the machine. */
function inOwnTime(backAt: readonly number[] = []): number[] {
  const from = backAt[Math.floor(backAt.length * 0.1)] ?? 0;
  const until = backAt[Math.floor(backAt.length * 0.9)] ?? 0;
  return backAt.map((at) => (at - from) / (until - from));
}

function largestDifference(one: readonly number[], other: readonly number[]): number {
  return Math.max(...one.map((at, place) => Math.abs((place + 1) / one.length - shareBack(other, at))));
}

function deciles(backAt: readonly number[] = []): string {
  return Array.from({ length: 10 }, (_, tenth) =>
    Math.round(backAt[Math.floor(backAt.length * (tenth + 0.5) * 0.1)] ?? 0),
  ).join(" ");
}
