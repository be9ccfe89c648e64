/** A small fleet of real processes on this machine: Redis, private APIs, gateway nodes. */
import { randomBytes } from "node:crypto";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { freePort } from "../../test/support/processes.ts";
import { answersReady, type Role, Server } from "./server.ts";

export interface ServerProcess {
  readonly role: Role;
  readonly pid: number;
}

/** Where the load goes. */
export interface Deployment {
  readonly gatewayUrls: readonly string[];
  readonly privateApi: string;
  readonly privateApiToken: string;
  readonly jwtSecret: string;
  /** Those whose use of CPU and memory is measured. */
  readonly processes: readonly ServerProcess[];
}

/** A fleet of our own: what else of it can be asked. */
export interface OwnDeployment extends Deployment {
  readonly redisUrl: string;
  /** One for each gateway. */
  readonly adminUrls: readonly string[];
  readonly privateApis: readonly string[];
  /** What the gateways identify themselves with. */
  readonly relayToken: string;
}

export interface FleetOptions {
  /** How many run from the start. */
  readonly gateways?: number;
  /** Gateways that have ports: those that do not run from the start can be started later. */
  readonly gatewaySeats?: number;
  readonly privateApis?: number;
  /** Redis keeps what it wrote when it is killed. */
  readonly appendOnly?: boolean;
  /** Bound of the old space of each Node program. */
  readonly heapMiB?: number;
  /** Bound of each of the semi-spaces that make up the young generation. */
  readonly semiSpaceMiB?: number;
  /** Bound of the file descriptors of each Node program. */
  readonly descriptors?: number;
  /** Flags of Node, of the gateways and private APIs. */
  readonly nodeFlags?: readonly string[];
  /** Settings of the gateways. */
  readonly gatewaySettings?: Readonly<Record<string, string>>;
  /** Tokens of the private API beside its own two. */
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
  #privateApis: Server[] = [];
  #gateways: Server[] = [];
  #stopping = false;
  #descriptors: number | undefined;
  /** Roles of processes that ended although nobody stopped them. */
  readonly died: Role[] = [];

  /** Again after `stop()`: another fleet. */
  async start(options: FleetOptions = {}): Promise<OwnDeployment> {
    [this.#redis, this.#privateApis, this.#gateways, this.#stopping] = [undefined, [], [], false];
    this.#descriptors = options.descriptors;
    this.#folder = await mkdtemp(join(tmpdir(), "tidegate-load-"));
    const secret = (): string => randomBytes(32).toString("base64url");
    const relayToken = secret();
    const publishToken = secret();
    const jwtSecret = secret();

    const redisPort = await freePort();
    const persistence = ["--save", "", "--appendonly", options.appendOnly ? "yes" : "no", "--appendfsync", "everysec"];
    this.#redis = new Server({
      ...this.#named("redis", "redis"),
      command: "redis-server",
      args: ["--port", String(redisPort), "--bind", "127.0.0.1", "--dir", this.#folder, ...persistence],
      ready: async (spawned) => spawned.printed("Ready to accept connections"),
    });
    await this.#start(this.#redis);

    const redisUrl = `redis://127.0.0.1:${redisPort}`;
    const flags = [...(options.nodeFlags ?? [])];
    if (options.heapMiB !== undefined) flags.push(`--max-old-space-size=${options.heapMiB}`);
    const common = {
      REDIS_URL: redisUrl,
      LOG_LEVEL: process.env["LOG_LEVEL"] ?? "warn",
      ...(flags.length > 0 && { NODE_OPTIONS: flags.join(" ") }),
    };
    const privateApis: string[] = [];
    for (let number = 1; number <= (options.privateApis ?? 1); number++) {
      const port = await freePort();
      const url = `http://127.0.0.1:${port}`;
      const api = this.#program("private-api", `private-api-${number}`, url, {
        ...common,
        PRIVATE_API_HOST: "127.0.0.1",
        PRIVATE_API_PORT: String(port),
        PRIVATE_API_TOKENS: JSON.stringify([
          { name: "gateway", token: relayToken, scopes: ["relay"] },
          { name: "load", token: publishToken, scopes: ["publish", "rules", "read", "operate"] },
          ...(options.moreTokens ?? []),
        ]),
      });
      this.#privateApis.push(api);
      privateApis.push(url);
      await this.#start(api);
    }

    const gatewayUrls: string[] = [];
    const adminUrls: string[] = [];
    const running = options.gateways ?? 2;
    for (let number = 1; number <= Math.max(running, options.gatewaySeats ?? 0); number++) {
      const [port, adminPort] = [await freePort(), await freePort()];
      const adminUrl = `http://127.0.0.1:${adminPort}`;
      const gateway = this.#program("gateway", `node-${number}`, adminUrl, {
        ...common,
        GATEWAY_HOST: "127.0.0.1",
        GATEWAY_NODE: `node-${number}`,
        GATEWAY_PORT: String(port),
        GATEWAY_ADMIN_PORT: String(adminPort),
        GATEWAY_MAX_CONNECTIONS: "20000",
        PRIVATE_API_URL: privateApis.join(","),
        PRIVATE_API_TOKEN: relayToken,
        AUTH_JWT_SECRET: jwtSecret,
        ...options.gatewaySettings,
      });
      this.#gateways.push(gateway);
      gatewayUrls.push(`ws://127.0.0.1:${port}`);
      adminUrls.push(adminUrl);
      if (number <= running) await this.#start(gateway);
    }
    const [privateApi = ""] = privateApis;
    const { processes } = this;
    return {
      ...{ gatewayUrls, adminUrls, redisUrl, privateApi, privateApis },
      ...{ privateApiToken: publishToken, relayToken, jwtSecret, processes },
    };
  }

  /** Those that run now. */
  get processes(): ServerProcess[] {
    return this.#servers.flatMap(({ role, pid }) => (pid === undefined ? [] : [{ role, pid }]));
  }

  /** In the order of their seats, also those that do not run. */
  get gateways(): readonly Server[] {
    return this.#gateways;
  }

  get privateApis(): readonly Server[] {
    return this.#privateApis;
  }

  /** SIGKILL. */
  async killRedis(): Promise<void> {
    await this.#redis?.kill();
  }

  /** SIGKILL. @param seat from 0. */
  async killGateway(seat: number): Promise<void> {
    await this.#gateways[seat]?.kill();
  }

  /** Again, on the same port and with what it kept. Resolves once it is ready. */
  async restartRedis(): Promise<void> {
    await this.#redis?.start();
  }

  /** What the servers printed: warnings and errors, where all is well nothing. */
  output(): string {
    return this.#servers
      .filter(({ role }) => role !== "redis")
      .map((server) => ({ server, lines: server.output().split("\n").filter(isTrouble) }))
      .filter(({ lines }) => lines.length > 0)
      .map(({ server, lines }) => `--- ${server.name}\n${lines.join("\n").slice(-4_000)}`)
      .join("\n");
  }

  /** In reverse order; who does not leave in time is killed. */
  async stop(): Promise<void> {
    this.#stopping = true;
    await Promise.all(this.#gateways.map(async (gateway) => gateway.stop(stopWithinMs)));
    for (const server of this.#servers.toReversed()) await server.stop(stopWithinMs);
    if (this.#folder !== undefined) await rm(this.#folder, { recursive: true, force: true });
  }

  get #servers(): Server[] {
    return [...(this.#redis ? [this.#redis] : []), ...this.#privateApis, ...this.#gateways];
  }

  /** @param url whose `/readyz` tells. */
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
      ready: async (spawned) => answersReady(spawned, url),
    });
  }

  #named(role: Role, name: string): { role: Role; name: string; onDied: () => void } {
    return { role, name, onDied: () => void (this.#stopping || this.died.push(role)) };
  }

  async #start(server: Server): Promise<void> {
    if (this.#stopping) throw new Error("told to stop");
    await server.start();
  }
}

/** Not what a log of a lower level holds besides. */
function isTrouble(line: string): boolean {
  return line !== "" && !/^\{"level":(10|20|30),/.test(line);
}
