/** A small fleet of real processes on this machine: Redis, private APIs, gateway nodes. */
import { randomBytes } from "node:crypto";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { freePort } from "../../test/support/processes.ts";
import { putRules } from "./private-api.ts";
import { answersReady, type Role, Server } from "./server.ts";

export interface ServerProcess {
  readonly role: Role;
  readonly pid: number;
}

/** A deployment under load. */
export interface Deployment {
  readonly gatewayUrls: readonly string[];
  readonly privateApi: string;
  readonly privateApiToken: string;
  readonly jwtSecret: string;
  /** Processes whose CPU and memory are measured; empty where they do not run on this machine. */
  readonly processes: readonly ServerProcess[];
}

/** A deployment that a {@link Fleet} runs. */
export interface OwnDeployment extends Deployment {
  readonly redisUrl: string;
  /** By seat of the gateway. */
  readonly adminUrls: readonly string[];
  readonly privateApis: readonly string[];
  /** The gateways' token for the private API. */
  readonly relayToken: string;
}

export interface FleetOptions {
  /** The checkout whose gateway and private API run, default this one. */
  readonly checkout?: string;
  /** Gateways that run from the start, default 2. */
  readonly gateways?: number;
  /** Gateways that have ports; those beyond `gateways` can be started later. */
  readonly gatewaySeats?: number;
  readonly privateApis?: number;
  /** Redis writes an append-only file and keeps its data across a restart. */
  readonly appendOnly?: boolean;
  /** There are two cells, `a` and `b`; `a` owns every slot. */
  readonly twoCells?: boolean;
  /** Limit of the old space of each Node program. */
  readonly heapMiB?: number;
  /** Limit of each semi-space of the young generation. */
  readonly semiSpaceMiB?: number;
  /** Limit of open file descriptors of each Node program. */
  readonly descriptors?: number;
  /** Node flags of the gateways and private APIs. */
  readonly nodeFlags?: readonly string[];
  /** Environment variables of the gateways. */
  readonly gatewaySettings?: Readonly<Record<string, string>>;
  /** Environment variables of the private APIs. */
  readonly privateApiSettings?: Readonly<Record<string, string>>;
  /** Further tokens of the private API. */
  readonly moreTokens?: readonly {
    readonly name: string;
    readonly token: string;
    readonly scopes: readonly string[];
  }[];
}

const stopWithinMs = 10_000;

export class Fleet {
  #folder: string | undefined;
  #redis: Server | undefined;
  #secondRedis: Server | undefined;
  #privateApis: Server[] = [];
  #gateways: Server[] = [];
  #stopping = false;
  #descriptors: number | undefined;
  #checkout: string | undefined;
  /** Roles of processes that ended by themselves. */
  readonly died: Role[] = [];

  /** Starts Redis, private APIs and gateways, each once the one before is ready. Can start another fleet after stop(). */
  async start(options: FleetOptions = {}): Promise<OwnDeployment> {
    [this.#redis, this.#secondRedis, this.#privateApis, this.#gateways] = [undefined, undefined, [], []];
    this.#stopping = false;
    [this.#descriptors, this.#checkout] = [options.descriptors, options.checkout];
    const secret = (): string => randomBytes(32).toString("base64url");
    const [relayToken, privateApiToken, jwtSecret] = [secret(), secret(), secret()];
    const redisUrl = await this.startRedis(options.appendOnly);
    const secondUrl = options.twoCells ? await this.#startSecondRedis(options.appendOnly) : undefined;
    const flags = [...(options.nodeFlags ?? [])];
    if (options.heapMiB !== undefined) flags.push(`--max-old-space-size=${options.heapMiB}`);
    if (options.semiSpaceMiB !== undefined) flags.push(`--max-semi-space-size=${options.semiSpaceMiB}`);
    const common = {
      ...(secondUrl === undefined ? { REDIS_URL: redisUrl } : { REDIS_CELLS: `a=${redisUrl},b=${secondUrl}` }),
      LOG_LEVEL: process.env["LOG_LEVEL"] ?? "warn",
      ...(flags.length > 0 && { NODE_OPTIONS: flags.join(" ") }),
    };
    const privateApis = await this.#startPrivateApis(options.privateApis ?? 1, {
      ...common,
      PRIVATE_API_TOKENS: JSON.stringify([
        { name: "gateway", token: relayToken, scopes: ["relay"] },
        { name: "load", token: privateApiToken, scopes: ["publish", "rules", "read", "operate"] },
        ...(options.moreTokens ?? []),
      ]),
      ...options.privateApiSettings,
    });
    const [privateApi = ""] = privateApis;
    // A gateway is ready once it knows rules; scenarios put their own later.
    await putRules({ privateApi, privateApiToken }, {});
    const { gateways = 2, gatewaySeats = 0 } = options;
    const { gatewayUrls, adminUrls } = await this.#startGateways(gateways, Math.max(gateways, gatewaySeats), {
      ...common,
      GATEWAY_MAX_CONNECTIONS: "20000",
      PRIVATE_API_URL: privateApis.join(","),
      PRIVATE_API_TOKEN: relayToken,
      AUTH_JWT_SECRET: jwtSecret,
      ...options.gatewaySettings,
    });
    const { processes } = this;
    return {
      ...{ gatewayUrls, adminUrls, redisUrl, privateApi, privateApis },
      ...{ privateApiToken, relayToken, jwtSecret, processes },
    };
  }

  /** Redis alone, for scenarios that run no program. @returns its URL. */
  async startRedis(appendOnly = false): Promise<string> {
    this.#folder = await mkdtemp(join(tmpdir(), "tidegate-load-"));
    const { server, url } = await this.#newRedis("redis", this.#folder, appendOnly);
    this.#redis = server;
    await this.#start(server);
    return url;
  }

  async #startSecondRedis(appendOnly = false): Promise<string> {
    const folder = await mkdtemp(join(this.#folder ?? tmpdir(), "b-"));
    const { server, url } = await this.#newRedis("redis-b", folder, appendOnly);
    this.#secondRedis = server;
    await this.#start(server);
    return url;
  }

  async #newRedis(name: string, folder: string, appendOnly: boolean): Promise<{ server: Server; url: string }> {
    const port = await freePort();
    const persistence = ["--save", "", "--appendonly", appendOnly ? "yes" : "no", "--appendfsync", "everysec"];
    const server = new Server({
      ...this.#named("redis", name),
      command: "redis-server",
      args: ["--port", String(port), "--bind", "127.0.0.1", "--dir", folder, ...persistence],
      ready: async (spawned) => spawned.printed("Ready to accept connections"),
    });
    return { server, url: `redis://127.0.0.1:${port}` };
  }

  /** @returns their URLs. */
  async #startPrivateApis(count: number, settings: Record<string, string>): Promise<string[]> {
    const urls: string[] = [];
    for (let number = 1; number <= count; number++) {
      const port = await freePort();
      const url = `http://127.0.0.1:${port}`;
      const own = { PRIVATE_API_HOST: "127.0.0.1", PRIVATE_API_PORT: String(port) };
      const privateApi = this.#program("private-api", `private-api-${number}`, url, { ...settings, ...own });
      this.#privateApis.push(privateApi);
      urls.push(url);
      await this.#start(privateApi);
    }
    return urls;
  }

  /** Gives ports to `seats` gateways and starts the first `running` of them. */
  async #startGateways(
    running: number,
    seats: number,
    settings: Record<string, string>,
  ): Promise<{ gatewayUrls: string[]; adminUrls: string[] }> {
    const gatewayUrls: string[] = [];
    const adminUrls: string[] = [];
    for (let number = 1; number <= seats; number++) {
      const [port, adminPort] = [await freePort(), await freePort()];
      const adminUrl = `http://127.0.0.1:${adminPort}`;
      const gateway = this.#program("gateway", `node-${number}`, adminUrl, {
        GATEWAY_HOST: "127.0.0.1",
        GATEWAY_NODE: `node-${number}`,
        GATEWAY_PORT: String(port),
        GATEWAY_ADMIN_PORT: String(adminPort),
        ...settings,
      });
      this.#gateways.push(gateway);
      gatewayUrls.push(`ws://127.0.0.1:${port}`);
      adminUrls.push(adminUrl);
      if (number <= running) await this.#start(gateway);
    }
    return { gatewayUrls, adminUrls };
  }

  /** Processes that run now. */
  get processes(): ServerProcess[] {
    return this.#servers.flatMap(({ role, pid }) => (pid === undefined ? [] : [{ role, pid }]));
  }

  /** By seat, whether they run or not. */
  get gateways(): readonly Server[] {
    return this.#gateways;
  }

  get privateApis(): readonly Server[] {
    return this.#privateApis;
  }

  /** Of cell b. */
  get secondRedis(): Server | undefined {
    return this.#secondRedis;
  }

  /** SIGKILL. */
  async killRedis(): Promise<void> {
    await this.#redis?.kill();
  }

  /** SIGKILL. @param seat from 0. */
  async killGateway(seat: number): Promise<void> {
    await this.#gateways[seat]?.kill();
  }

  /** Starts Redis again on the same port, with the data that it kept. Resolves once it is ready. */
  async restartRedis(): Promise<void> {
    await this.#redis?.start();
  }

  /** Warnings and errors that the programs printed, by program. */
  output(): string {
    return this.#servers
      .filter(({ role }) => role !== "redis")
      .map((server) => ({ server, lines: server.output().split("\n").filter(isTrouble) }))
      .filter(({ lines }) => lines.length > 0)
      .map(({ server, lines }) => `--- ${server.name}\n${lines.join("\n").slice(-4_000)}`)
      .join("\n");
  }

  /** Stops the programs in reverse order of their start; kills those that take longer than 10 s. */
  async stop(): Promise<void> {
    this.#stopping = true;
    await Promise.all(this.#gateways.map(async (gateway) => gateway.stop(stopWithinMs)));
    for (const server of this.#servers.toReversed()) await server.stop(stopWithinMs);
    if (this.#folder !== undefined) await rm(this.#folder, { recursive: true, force: true });
  }

  get #servers(): Server[] {
    const redis = [this.#redis, this.#secondRedis].filter((server) => server !== undefined);
    return [...redis, ...this.#privateApis, ...this.#gateways];
  }

  /** @param url of the port that answers `/readyz` */
  #program(role: "gateway" | "private-api", name: string, url: string, env: Record<string, string>): Server {
    const command = [process.execPath, `${role}/main.ts`];
    const [first = "", ...args] =
      this.#descriptors === undefined
        ? command
        : ["sh", "-c", `ulimit -n ${this.#descriptors} && exec "$@"`, "sh", ...command];
    return new Server({
      ...this.#named(role, name),
      command: first,
      args,
      env,
      ...(this.#checkout !== undefined && { folder: this.#checkout }),
      ready: async (spawned) => answersReady(spawned, url),
    });
  }

  #named(role: Role, name: string): { role: Role; name: string; onDied: () => void } {
    return { role, name, onDied: () => void (this.#stopping || this.died.push(role)) };
  }

  async #start(server: Server): Promise<void> {
    if (this.#stopping) throw new Error("the fleet is stopping");
    await server.start();
  }
}

/** True for warnings, errors and lines that are no JSON. */
function isTrouble(line: string): boolean {
  return line !== "" && !/^\{"level":(10|20|30),/.test(line);
}
