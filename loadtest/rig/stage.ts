/** The rig of the surge scenarios: a fleet behind balancers, a crowd of clients, steady publishing, and a watch on the nodes. */
import { once } from "node:events";
import { createServer, type Server as HttpServer } from "node:http";
import type { AddressInfo } from "node:net";
import { setTimeout as pause } from "node:timers/promises";
import { Balancer } from "./balancer.ts";
import { Crowd } from "../clients/crowd.ts";
import type { Tally } from "../checks/tally.ts";
import { type Echo, startEcho } from "./echo.ts";
import type { Fleet, FleetOptions, OwnDeployment } from "./fleet.ts";
import { NodeWatch } from "../checks/node-watch.ts";
import type { Verdict } from "../checks/scenario-report.ts";
import { putRules } from "./private-api.ts";
import { say } from "./scenario.ts";
import { serviceSecret as secret } from "./service-secret.ts";
import { SteadyPublisher } from "./steady-publisher.ts";

export interface StageOptions extends FleetOptions {
  readonly balancers: number;
  readonly sdk: number;
  readonly stock: number;
  /** Processes that share the clients. */
  readonly crowdProcesses: number;
  readonly channels: number;
  /** To all channels together. */
  readonly publicationsPerSecond: number;
  /** Connections per second that the whole fleet admits. */
  readonly admissionsPerSecond: number;
  /** Delay of the service that answers calls, default 0. */
  readonly answerAfterMs?: number;
}

/** Of the admission rate: the gateways refuse no client while the crowd joins. */
const joinShare = 0.7;
const joinAllowanceMs = 90_000;
/** Publications of one phase arrive before the next phase begins. */
const betweenPhasesMs = 1_000;
/** Between the last welcome and the first phase. */
const settleMs = 5_000;
const caughtUpWithinMs = 30_000;

export class Stage {
  readonly deployment: OwnDeployment;
  readonly crowd: Crowd;
  readonly publisher: SteadyPublisher;
  readonly watch: NodeWatch;
  readonly #options: StageOptions;
  readonly #balancers: readonly Balancer[];
  readonly #hooks: HttpServer;
  readonly #echo: Echo;
  /** Calls of the connect hook: one for each session that is not resumed. */
  #hookCalls = 0;

  private constructor(parts: {
    options: StageOptions;
    deployment: OwnDeployment;
    balancers: readonly Balancer[];
    echo: Echo;
  }) {
    const { options, deployment, balancers } = parts;
    this.deployment = deployment;
    this.#options = options;
    this.#balancers = balancers;
    this.#echo = parts.echo;
    const channels = Array.from({ length: options.channels }, (_, i) => `load:${i}`);
    const urls = balancers.length > 0 ? balancers.map(({ url }) => url) : deployment.gatewayUrls;
    const { sdk, stock, crowdProcesses: processes } = options;
    this.crowd = new Crowd({ sdk, stock, processes, urls, channels, jwtSecret: deployment.jwtSecret });
    this.publisher = new SteadyPublisher(deployment, { channels });
    this.watch = new NodeWatch(deployment.adminUrls);
    this.#hooks = createServer((_request, response) => {
      this.#hookCalls++;
      response.writeHead(200, { "content-type": "application/json" }).end("{}");
    });
  }

  /** Runs `act` once the whole crowd has joined, and stops everything but the fleet afterwards. */
  static async run<Result>(
    fleet: Fleet,
    options: StageOptions,
    act: (stage: Stage) => Promise<Result>,
  ): Promise<Result> {
    const { gateways = 2, privateApis = 1, sdk, stock } = options;
    say(`starting redis, ${privateApis} private api, ${gateways} gateways, ${options.balancers} balancers`);
    const deployment = await fleet.start({
      ...options,
      gatewaySettings: {
        GATEWAY_ADMISSIONS_PER_SECOND: String(options.admissionsPerSecond),
        ...options.gatewaySettings,
      },
    });
    const balancers = await Promise.all(
      Array.from({ length: options.balancers }, async () => Balancer.start(deployment)),
    );
    const echo = await startEcho(options.answerAfterMs);
    const stage = new Stage({ options, deployment, balancers, echo });
    try {
      await stage.#begin();
      say(`joining: ${sdk} SDK clients and ${stock} stock clients`);
      await stage.#join();
      return await act(stage);
    } catch (error) {
      say(`refusals and welcomes: ${JSON.stringify(await stage.#refusalsAndWelcomes())}`);
      throw error;
    } finally {
      await stage.#stop();
    }
  }

  get hookCalls(): number {
    return this.#hookCalls;
  }

  /** Starts a phase. Resolves once publications of the phase before have arrived: its figures are final. */
  async phase(name: string): Promise<void> {
    say(name);
    this.publisher.phase = name;
    this.crowd.phase(name);
    await pause(betweenPhasesMs);
  }

  /** @param sinceMs Unix ms. */
  peakVerdict(sinceMs: number): Verdict {
    const peak = this.watch.peakPerSecond(sinceMs);
    const { admissionsPerSecond: allowed } = this.#options;
    return {
      title: "the peak connection rate, counted at the gateways, is within the admission rate",
      pass: peak <= allowed,
      value: `${peak.toFixed(0)} of ${allowed}`,
    };
  }

  /** Stops publishing, lets the clients catch up, and collects what they saw. */
  async report(): Promise<Tally> {
    await this.phase("end");
    const ends = await this.publisher.stop();
    await this.watch.stop();
    return this.crowd.report({ ends, withinMs: caughtUpWithinMs });
  }

  /** So far; explains a crowd that did not join. */
  async #refusalsAndWelcomes(): Promise<Record<string, number>> {
    const tally = await this.crowd.report({ ends: {}, withinMs: 0 });
    return { ...tally.counts("refused/*/*/*"), ...tally.counts("welcomed/*/*/*") };
  }

  async #begin(): Promise<void> {
    this.#hooks.listen(0, "127.0.0.1");
    await once(this.#hooks, "listening");
    const { port } = this.#hooks.address() as AddressInfo;
    await putRules(this.deployment, {
      namespaces: { load: { access: "token", historySize: 1_000 } },
      services: {
        hooks: { url: `http://127.0.0.1:${port}`, secret },
        echo: { url: this.#echo.url, secret },
      },
      routes: [{ event: "echo", service: "echo", path: "/", mode: "call" }],
      hooks: { connect: "hooks" },
    });
  }

  async #join(): Promise<void> {
    const perSecond = this.#options.admissionsPerSecond * joinShare;
    this.publisher.start(this.#options.publicationsPerSecond);
    this.watch.start();
    await this.crowd.join({ perSecond, withinMs: (this.crowd.size / perSecond) * 1_000 + joinAllowanceMs });
    await pause(settleMs);
  }

  async #stop(): Promise<void> {
    await this.publisher.stop();
    await this.watch.stop();
    await this.crowd.leave();
    for (const balancer of this.#balancers) await balancer.stop();
    this.#echo.stop();
    this.#hooks.closeAllConnections();
    this.#hooks.close();
  }
}
