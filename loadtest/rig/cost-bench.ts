/** A fleet of one checkout, and the work whose CPU time it measures. */
import type { Socket } from "socket.io-client";
import { RawClient } from "../../test/support/raw-client.ts";
import { cpuMsByRole } from "../checks/usage.ts";
import { inBatches } from "../clients/batches.ts";
import { emitAtOnce } from "../clients/emit-at-once.ts";
import { loadToken } from "../clients/load-token.ts";
import { openStockSession } from "../clients/stock-session.ts";
import { type Echo, startEcho } from "./echo.ts";
import { Fleet, type OwnDeployment } from "./fleet.ts";
import { callPrivateApi, putRules } from "./private-api.ts";
import type { Role } from "./server.ts";
import { serviceSecret } from "./service-secret.ts";

/** µs of CPU per unit of work: a connect with its subscribe, a delivery, a call. */
export type Cost = Readonly<Record<Role, number>>;

const channel = "load:costs";
const callers = 8;
const callsAtOnce = 64;
const text = "about a hundred bytes of what an application sends";
const deliveredWithinMs = 30_000;

export class CostBench {
  readonly #fleet = new Fleet();
  #deployment: OwnDeployment | undefined;
  #echo: Echo | undefined;
  #token = "";
  #callers: readonly Socket[] = [];
  #subscribers: readonly RawClient[] = [];
  #deliveries = 0;
  #expected = Number.POSITIVE_INFINITY;
  #whenDelivered: () => void = () => undefined;

  /** @param checkout default: this one */
  async start(checkout: string | undefined, subscribers: number): Promise<void> {
    this.#echo = await startEcho();
    this.#deployment = await this.#fleet.start({
      ...(checkout !== undefined && { checkout }),
      gateways: 1,
      // Above the defaults: no limit is the subject.
      gatewaySettings: { GATEWAY_MESSAGES_PER_SECOND: "1000000", GATEWAY_ADMISSIONS_PER_SECOND: "100000" },
    });
    await putRules(this.#deployment, {
      namespaces: { load: { access: "token", historySize: 100 } },
      services: { echo: { url: this.#echo.url, secret: serviceSecret } },
      routes: [{ event: "echo", service: "echo", path: "/", mode: "call" }],
    });
    this.#token = await loadToken(this.#deployment.jwtSecret, "load", { channels: ["load:*"] });
    const url = this.#deployment.gatewayUrls[0] ?? "";
    const sessions = Array.from({ length: callers }, async () => openStockSession(url, { token: this.#token }));
    this.#callers = (await Promise.all(sessions)).map(({ socket }) => socket);
    this.#subscribers = await this.#subscribe(subscribers);
    for (const subscriber of this.#subscribers) {
      subscriber.onEvent = () => {
        if (++this.#deliveries === this.#expected) this.#whenDelivered();
      };
    }
  }

  /** Warnings and errors that the programs printed. */
  output(): string {
    return this.#fleet.output();
  }

  /** `count` clients connect and subscribe to a channel, 50 at the same time. They leave before the next work begins. */
  async connects(count: number): Promise<Cost> {
    let clients: readonly RawClient[] = [];
    const cost = await this.#costPer(count, async () => {
      clients = await this.#subscribe(count, `${channel}-connects`);
    });
    await Promise.all(clients.map(async (client) => this.#leave(client)));
    return cost;
  }

  /** Publishes `count` times `atOnce` publications to all subscribers; waits for all deliveries in between. */
  async deliveries(count: number, atOnce: number): Promise<Cost> {
    const items = Array.from({ length: atOnce }, () => ({ channel, event: "card.moved", data: { card: 7, text } }));
    return this.#costPer(count * atOnce * this.#subscribers.length, async () => {
      for (let i = 0; i < count; i++) await this.#publish(items);
    });
  }

  /** `count` calls to a service that answers at once, 64 at the same time over 8 connections. */
  async calls(count: number): Promise<Cost> {
    let failed = 0;
    const cost = await this.#costPer(count, async () => {
      let emitted = 0;
      const continues = (): boolean => emitted++ < count;
      const data = (): object => ({ card: 17, text });
      ({ failed } = await emitAtOnce(this.#callers, { event: "echo", data, atOnce: callsAtOnce, continues }));
    });
    if (failed > 0) throw new Error(`${failed} of ${count} calls failed`);
    return cost;
  }

  async stop(): Promise<void> {
    for (const socket of this.#callers) socket.disconnect();
    for (const { socket } of this.#subscribers) socket.destroy();
    await this.#fleet.stop();
    this.#echo?.stop();
  }

  async #costPer(units: number, act: () => Promise<void>): Promise<Cost> {
    const processes = this.#started.processes;
    const before = cpuMsByRole(processes);
    await act();
    if (this.#fleet.died.length > 0) throw new Error(`${this.#fleet.died.join(", ")} ended by itself`);
    const after = cpuMsByRole(processes);
    const micros = (role: Role): number => (((after.get(role) ?? 0) - (before.get(role) ?? 0)) * 1_000) / units;
    return { gateway: micros("gateway"), "private-api": micros("private-api"), redis: micros("redis") };
  }

  async #publish(items: readonly object[]): Promise<void> {
    this.#deliveries = 0;
    this.#expected = items.length * this.#subscribers.length;
    const delivered = new Promise<void>((resolve, reject) => {
      const late = setTimeout(
        () => reject(new Error(`${this.#deliveries} of ${this.#expected} deliveries in time`)),
        deliveredWithinMs,
      );
      this.#whenDelivered = () => {
        clearTimeout(late);
        resolve();
      };
    });
    await Promise.all([callPrivateApi(this.#started, "POST", "/v1/publish/batch", items), delivered]);
  }

  async #subscribe(count: number, to = channel): Promise<RawClient[]> {
    const url = new URL(this.#started.gatewayUrls[0]?.replace("ws", "http") ?? "");
    return inBatches(Array.from({ length: count }), async () => {
      const client = await RawClient.connect(url, this.#token);
      await client.subscribe(to);
      return client;
    });
  }

  async #leave(client: RawClient): Promise<void> {
    client.socket.destroy();
    await client.closed;
  }

  get #started(): OwnDeployment {
    if (!this.#deployment) throw new Error("the fleet has not started");
    return this.#deployment;
  }
}
