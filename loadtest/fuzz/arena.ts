/**
 * A fuzzed deployment: real processes, a hostile end, and an honest client. `main` has a hostile service behind its private
 * API; `relay` has a gateway whose private API is hostile.
 */
import { type Echo, startEcho } from "../rig/echo.ts";
import { Fleet, type OwnDeployment } from "../rig/fleet.ts";
import { callPrivateApi, putRules } from "../rig/private-api.ts";
import { type ArenaRules, arenaRules, historySize, hookSecretName } from "./arena-rules.ts";
import { Asker } from "./asker.ts";
import { Audience } from "./audience.ts";
import { HonestClient, type HonestFigures } from "./honest-client.ts";
import { HostilePrivateApi } from "./hostile-private-api.ts";
import { HostileService } from "./hostile-service.ts";
import type { Input } from "./input.ts";
import { fullChannel, honestUser } from "./names.ts";
import { type Live, type LiveName, signedToken } from "./parts.ts";
import { Plans } from "./plans.ts";
import { type Place, play, type Played, type PlayOptions } from "./player.ts";
import { type Finding, ProcessWatch } from "./process-watch.ts";
import { StarvationSampler } from "./starvation.ts";

export type ArenaName = "main" | "relay";

const apiToken = "fuzz-token-of-services";
/** A leaking heap ends its process soon. */
const heapMiB = 384;
const farExp = 4_102_444_800;
/** The year 2001. */
const pastExp = 1_000_000_000;
const users = 40;
const audience = 6;
const relayBackMs = 5_000;
const fullHistoryBytes = 500 * 1024;
const containedPattern = /^tidegate_contained_errors_total\{boundary="(\w+)"\} (\d+)/gm;
const webhooksPattern = /^tidegate_webhooks_total\{source="([^"]+)",outcome="(\w+)"\} (\d+)/gm;
const gauges = [
  "sessions",
  "seats",
  "calls_pending",
  "outbox_bytes",
  "handshakes_waiting",
  "upgrades_waiting",
  "channels_followed",
  "webhook_bytes",
];

/** Resources in use: descriptors of each process, and gauges of the gateway. */
export type Resources = Readonly<Record<string, number>>;

export class Arena {
  readonly name: ArenaName;
  readonly #fleet = new Fleet();
  readonly #plans = new Plans();
  readonly #honest = new HonestClient();
  readonly #live: Live;
  #deployment: OwnDeployment | undefined;
  #watches: readonly ProcessWatch[] = [];
  #hostile: HostileService | HostilePrivateApi | undefined;
  #echo: Echo | undefined;
  #place: Place | undefined;
  #asker: Asker | undefined;
  #rules: ArenaRules = arenaRules();
  #lastUser = 0;
  #interrupted = false;
  #audience: Audience | undefined;
  /** Times that a process waited long for a core. */
  starved = 0;
  readonly #starvation = new StarvationSampler(() => {
    this.starved++;
    this.#interrupted = true;
  });
  /** The last values that the server sent in any conversation: resume tokens, grants, epochs. */
  readonly #learned = new Map<LiveName, string>();

  constructor(name: ArenaName) {
    this.name = name;
    this.#live = this.#createLive();
  }

  async start(): Promise<void> {
    const hostile =
      this.name === "main"
        ? new HostileService(this.#plans, this.#live)
        : new HostilePrivateApi(this.#plans, this.#live);
    await hostile.start();
    this.#hostile = hostile;
    const own: Record<string, string> =
      hostile instanceof HostilePrivateApi
        ? {
            PRIVATE_API_URL: hostile.urls.join(","),
            // Low enough that handshakes wait and are refused.
            GATEWAY_ADMISSIONS_PER_SECOND: "200",
            GATEWAY_CONNECTIONS_PER_ADDRESS: "2000",
            GATEWAY_CONNECTS_PER_ADDRESS: "1000",
          }
        : { AUTH_JWKS_URL: `${hostile.url}/jwks` };
    const deployment = await this.#fleet.start({
      gateways: 1,
      heapMiB,
      nodeFlags: ["--inspect=127.0.0.1:0"],
      gatewaySettings: {
        GATEWAY_TRANSPORTS: "websocket,polling",
        GATEWAY_MAX_CONNECTIONS: "4000",
        GATEWAY_ADMISSIONS_PER_SECOND: "100000",
        TRUSTED_PROXIES: "127.0.0.1",
        [hookSecretName]: Buffer.alloc(32, 9).toString("base64"),
        GATEWAY_DRAIN_SECONDS: "2",
        ...own,
      },
      moreTokens: [{ name: "fuzz", token: apiToken, scopes: ["publish", "users", "read"] }],
    });
    this.#deployment = deployment;
    const [gateway, privateApi] = [this.#fleet.gateways[0], this.#fleet.privateApis[0]];
    if (!gateway || !privateApi) throw new Error("the fleet lacks a program");
    this.#watches = [gateway, privateApi].map((server) => new ProcessWatch(server));
    const port = (url = ""): number => Number(new URL(url).port);
    const { gatewayUrls, adminUrls } = deployment;
    const ports = { public: port(gatewayUrls[0]), admin: port(adminUrls[0]), private: port(deployment.privateApi) };
    this.#place = { ports, live: this.#live, learn: (name, value) => void this.#learned.set(name, value) };
    const url = new URL(`http://127.0.0.1:${ports.public}`);
    this.#asker = new Asker({ url, live: this.#live, plans: this.#plans });
    await this.#putRules(deployment);
    await this.#fillChannel(deployment);
    this.#starvation.start(this.#watches);
    await this.#honest.start({
      url: url.href,
      token: this.#token(honestUser, ["honest:*"]),
      apiUrl: deployment.privateApi,
      apiToken,
      healthUrls: [adminUrls[0] ?? "", deployment.privateApi],
      calls: this.name === "main",
    });
  }

  get gateway(): ProcessWatch {
    return this.#watch(0);
  }

  get privateApi(): ProcessWatch {
    return this.#watch(1);
  }

  get watches(): readonly ProcessWatch[] {
    return this.#watches;
  }

  /** Throws where a question stays unanswered. */
  async play(input: Input, options: PlayOptions = {}): Promise<Played> {
    if (!this.#place || !this.#asker) throw new Error("the arena has not started");
    if (input.kind === "conversation") return play(input, this.#place, options);
    await options.whenReady?.();
    await this.#asker.ask(input);
    return { frames: 0, requests: 1, refused: false };
  }

  /** Connects clients that receive what inputs publish and send. */
  gatherAudience(): void {
    if (this.name !== "main" || !this.#place) return;
    const url = new URL(`http://127.0.0.1:${this.#place.ports.public}`);
    const tokens = Array.from({ length: audience }, (_, number) => this.#token(`fuzz-${number}`, ["fuzz:*"]));
    this.#audience = new Audience(url, tokens);
  }

  async dismissAudience(): Promise<void> {
    await this.#audience?.stop();
  }

  /** Closes connections that inputs left open. */
  leave(): void {
    this.#asker?.leave();
  }

  /**
   * Figures since the last call. Undefined where a process was down meanwhile, which is a finding already, or waited so long
   * for a core that it seemed to hang.
   */
  async honestFigures(): Promise<HonestFigures | undefined> {
    const wasInterrupted = this.#interrupted;
    const figures = await this.#honest.figures(wasInterrupted);
    this.#interrupted = false;
    return wasInterrupted ? undefined : figures;
  }

  get hasDead(): boolean {
    return this.#watches.some(({ isGone }) => isGone);
  }

  /** Logged failures and deaths since the last call. Restarts dead processes. */
  async findings(): Promise<Finding[]> {
    const findings = this.#watches.flatMap((watch) => watch.findings());
    const dead = this.#watches.filter(({ isGone }) => isGone);
    if (dead.length === 0) return findings;
    this.#interrupted = true;
    for (const watch of dead) {
      findings.push(watch.death());
      await watch.server.kill();
      watch.reset();
      await watch.server.start();
    }
    await this.#untilRelayIsBack();
    return findings;
  }

  /** Contained exceptions, by process and boundary. */
  async contained(): Promise<Map<string, number>> {
    const counts = new Map<string, number>();
    for (const { server } of this.#watches) {
      for (const [, boundary, count] of (await this.#metrics(server.role)).matchAll(containedPattern)) {
        counts.set(`${server.role} ${boundary}`, Number(count));
      }
    }
    return counts;
  }

  /** What became of webhooks, by source. */
  async webhooks(): Promise<{ source: string; outcome: string; count: number }[]> {
    return [...(await this.#metrics("gateway")).matchAll(webhooksPattern)].map(
      ([, source = "", outcome = "", count]) => ({ source, outcome, count: Number(count) }),
    );
  }

  async resources(): Promise<Resources> {
    const metrics = await this.#metrics("gateway");
    const told = gauges.map((name) => [
      `gateway ${name}`,
      Number(new RegExp(`^tidegate_${name} (\\S+)`, "m").exec(metrics)?.[1] ?? Number.NaN),
    ]);
    const used = this.#watches.map((watch) => [`${watch.server.role} descriptors`, watch.descriptors]);
    return Object.fromEntries([...told, ...used]) as Resources;
  }

  /** @returns whether all programs exited in order. */
  async stop(): Promise<boolean> {
    this.#starvation.stop();
    this.leave();
    await this.dismissAudience();
    await this.#honest.stop();
    const died = this.#fleet.died.length;
    await this.#fleet.stop();
    this.#echo?.stop();
    await this.#hostile?.stop();
    return died === this.#fleet.died.length;
  }

  async #metrics(role: string): Promise<string> {
    const url = role === "gateway" ? this.#deployment?.adminUrls[0] : this.#deployment?.privateApi;
    return (await fetch(`${url}/metrics`)).text();
  }

  #watch(index: number): ProcessWatch {
    const watch = this.#watches[index];
    if (!watch) throw new Error("the arena has not started");
    return watch;
  }

  #createLive(): Live {
    const jwtSecret = (): string => this.#deployment?.jwtSecret ?? "";
    const values: Partial<Record<LiveName, () => string>> = {
      token: () => this.#token(`fuzz-${this.#lastUser++ % users}`, ["fuzz:*"]),
      expiredToken: () => this.#token("fuzz-1", ["fuzz:*"], pastExp),
      apiToken: () => apiToken,
      rulesToken: () => this.#deployment?.privateApiToken ?? "",
      relayToken: () => this.#deployment?.relayToken ?? "",
      namespaces: () => JSON.stringify(this.#rules.namespaces).slice(1, -1),
      services: () => JSON.stringify(this.#rules.services).slice(1, -1),
      routes: () => JSON.stringify(this.#rules.routes).slice(1, -1),
    };
    return {
      get jwtSecret() {
        return jwtSecret();
      },
      value: (name) => values[name]?.() ?? (name === "sid" ? undefined : this.#learned.get(name)) ?? "none",
    };
  }

  #token(sub: string, channels: readonly string[], exp = farExp): string {
    return signedToken(JSON.stringify({ sub, exp, channels }), this.#live.jwtSecret);
  }

  async #putRules(deployment: OwnDeployment): Promise<void> {
    const hostileUrl = this.#hostile instanceof HostileService ? this.#hostile.url : undefined;
    if (this.name === "main") this.#echo = await startEcho();
    this.#rules = arenaRules(hostileUrl, this.#echo?.url);
    await putRules(deployment, { ...this.#rules, hooks: { connect: "hooks", subscribe: "hooks" } });
  }

  /** Fills the history of a channel up to the limit of one answer. */
  async #fillChannel({ privateApi }: OwnDeployment): Promise<void> {
    const data = "x".repeat(fullHistoryBytes / historySize);
    const items = Array.from({ length: historySize }, () => ({ channel: fullChannel, event: "fuzz.full", data }));
    await callPrivateApi({ privateApi, privateApiToken: apiToken }, "POST", "/v1/publish/batch", items);
  }

  async #untilRelayIsBack(): Promise<void> {
    const deadline = Date.now() + relayBackMs;
    while (Date.now() < deadline) {
      const answer = await fetch(`${this.#deployment?.adminUrls[0]}/readyz`).catch(() => undefined);
      const { checks } = ((await answer?.json()) ?? {}) as { checks?: { privateApi?: string } };
      if (checks?.privateApi === "ok") return;
    }
  }
}
