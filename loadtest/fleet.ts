/** A small fleet of real processes on this machine: Redis, the private API, two gateway nodes. */
import { randomBytes } from "node:crypto";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { freePort, type Spawned, spawnProcess } from "../test/support/processes.ts";

export interface ServerProcess {
  readonly role: "gateway" | "private-api" | "redis";
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
}

const gatewayNodes = 2;
const readyWithinMs = 20_000;
const stopWithinMs = 10_000;
const root = join(import.meta.dirname, "..");

type Role = ServerProcess["role"];

export class Fleet {
  readonly #running: { role: Role; process: Spawned }[] = [];
  #folder: string | undefined;
  #startRedis: () => Promise<void> = () => Promise.reject(new Error("not started"));
  #stopping = false;
  /** Roles of processes that ended although nobody stopped them. */
  readonly died: Role[] = [];

  /**
   * @param options.appendOnly whether Redis keeps what it wrote when it is killed.
   * @param options.heapMiB bound of the old space of each Node program.
   * @param options.gatewaySettings besides those that they need.
   */
  async start(
    options: {
      gateways?: number;
      appendOnly?: boolean;
      heapMiB?: number;
      gatewaySettings?: Readonly<Record<string, string>>;
    } = {},
  ): Promise<OwnDeployment> {
    this.#folder = await mkdtemp(join(tmpdir(), "tidegate-load-"));
    const secret = (): string => randomBytes(32).toString("base64url");
    const relayToken = secret();
    const publishToken = secret();
    const jwtSecret = secret();

    const redisPort = await freePort();
    const persistence = ["--save", "", "--appendonly", options.appendOnly ? "yes" : "no", "--appendfsync", "everysec"];
    const redisArgs = ["--port", String(redisPort), "--bind", "127.0.0.1", "--dir", this.#folder, ...persistence];
    this.#startRedis = async () => {
      await this.#spawn("redis", "redis-server", redisArgs).printed("Ready to accept connections");
    };
    await this.#startRedis();

    const redisUrl = `redis://127.0.0.1:${redisPort}`;
    const heap = options.heapMiB !== undefined && { NODE_OPTIONS: `--max-old-space-size=${options.heapMiB}` };
    const common = { REDIS_URL: redisUrl, LOG_LEVEL: process.env["LOG_LEVEL"] ?? "warn", ...heap };
    const apiPort = await freePort();
    const privateApi = `http://127.0.0.1:${apiPort}`;
    const api = this.#spawn("private-api", process.execPath, ["private-api/main.ts"], {
      ...common,
      PRIVATE_API_HOST: "127.0.0.1",
      PRIVATE_API_PORT: String(apiPort),
      PRIVATE_API_TOKENS: JSON.stringify([
        { name: "gateway", token: relayToken, scopes: ["relay"] },
        { name: "load", token: publishToken, scopes: ["publish", "rules", "read"] },
      ]),
    });
    await ready(api, privateApi);

    const gatewayUrls: string[] = [];
    const adminUrls: string[] = [];
    for (let node = 1; node <= (options.gateways ?? gatewayNodes); node++) {
      const [port, adminPort] = [await freePort(), await freePort()];
      const gateway = this.#spawn("gateway", process.execPath, ["gateway/main.ts"], {
        ...common,
        GATEWAY_HOST: "127.0.0.1",
        GATEWAY_NODE: `node-${node}`,
        GATEWAY_PORT: String(port),
        GATEWAY_ADMIN_PORT: String(adminPort),
        GATEWAY_MAX_CONNECTIONS: "20000",
        PRIVATE_API_URL: privateApi,
        PRIVATE_API_TOKEN: relayToken,
        AUTH_JWT_SECRET: jwtSecret,
        ...options.gatewaySettings,
      });
      await ready(gateway, `http://127.0.0.1:${adminPort}`);
      gatewayUrls.push(`ws://127.0.0.1:${port}`);
      adminUrls.push(`http://127.0.0.1:${adminPort}`);
    }
    const processes = this.#running.flatMap(({ role, process: { child } }) =>
      child.pid === undefined ? [] : [{ role, pid: child.pid }],
    );
    return { gatewayUrls, adminUrls, redisUrl, privateApi, privateApiToken: publishToken, jwtSecret, processes };
  }

  /** SIGKILL. */
  async killRedis(): Promise<void> {
    await this.#kill("redis", 0);
  }

  /** SIGKILL. @param number of those that are left, from 0. */
  async killGateway(number: number): Promise<void> {
    await this.#kill("gateway", number);
  }

  async #kill(role: Role, number: number): Promise<void> {
    const victim = this.#running.filter((running) => running.role === role)[number];
    if (!victim) throw new Error(`there is no ${role} ${number}`);
    this.#running.splice(this.#running.indexOf(victim), 1);
    victim.process.kill("SIGKILL");
    await victim.process.exited;
  }

  /** Again, on the same port and with what it kept. Resolves once it is ready. */
  async restartRedis(): Promise<void> {
    await this.#startRedis();
  }

  /** What the servers printed: warnings and errors, where all is well nothing. */
  output(): string {
    return this.#running
      .filter(({ role, process }) => role !== "redis" && process.output() !== "")
      .map(({ role, process }) => `--- ${role}\n${process.output().slice(-4_000)}`)
      .join("\n");
  }

  /** In reverse order; who does not leave in time is killed. */
  async stop(): Promise<void> {
    this.#stopping = true;
    for (const { process } of this.#running.toReversed()) {
      process.kill("SIGTERM");
      const inTime = new AbortController();
      const tooLate = pause(stopWithinMs, undefined, { signal: inTime.signal });
      await Promise.race([process.exited, tooLate]).catch(() => undefined);
      inTime.abort();
      await tooLate.catch(() => undefined);
      process.kill("SIGKILL");
    }
    if (this.#folder !== undefined) await rm(this.#folder, { recursive: true, force: true });
  }

  #spawn(role: Role, command: string, args: readonly string[], env: Record<string, string> = {}): Spawned {
    if (this.#stopping) throw new Error("told to stop");
    const spawned = spawnProcess(command, args, { env, cwd: root });
    this.#running.push({ role, process: spawned });
    const ended = (): void => {
      const known = this.#running.some(({ process }) => process === spawned);
      if (known && !this.#stopping) this.died.push(role);
    };
    spawned.exited.then(ended, ended);
    return spawned;
  }
}

async function ready(server: Spawned, url: string): Promise<void> {
  const deadline = Date.now() + readyWithinMs;
  while (server.child.exitCode === null && Date.now() < deadline) {
    const answer = await fetch(`${url}/readyz`, { signal: AbortSignal.timeout(2_000) }).catch(() => undefined);
    if (answer?.ok) return;
    await pause(50);
  }
  throw new Error(`${url} did not become ready`);
}
