/** Gateways and a private API as processes that can be killed, frozen and restarted on their ports. */
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { eventually } from "../../test/support/eventually.ts";
import { jwtSecret, tokens } from "../../test/support/fleet.ts";
import { freePort, type Spawned, spawnProcess } from "../../test/support/processes.ts";
import { startTcpProxy, type TcpProxy } from "../../test/support/tcp-proxy.ts";

const root = join(import.meta.dirname, "../..");
/** A dozen processes may start at once, on a machine that is busy besides. */
const readyWithinMs = 120_000;

/** History of a schedule's channels: enough for any outage, and too little for some. */
export const historySizes = { whole: 10_000, brief: 20 } as const;

export interface Program {
  readonly name: string;
  kill(): Promise<void>;
  restart(): void;
  signal(signal: NodeJS.Signals): void;
  readonly running: boolean;
  /** Ended by itself. */
  readonly died: boolean;
  output(): string;
  ready(): Promise<void>;
}

export interface Deployment {
  readonly gateways: readonly Program[];
  readonly privateApi: Program;
  /** Between clients and each gateway. */
  readonly clientLinks: readonly TcpProxy[];
  readonly gatewayUrls: readonly string[];
  readonly apiUrl: string;
  stop(): Promise<void>;
}

/** Each program's settings for Redis. */
export interface RedisSettings {
  gateways: readonly Record<string, string>[];
  privateApi: Record<string, string>;
}

export async function startDeployment(redisSettings: RedisSettings): Promise<Deployment> {
  const folder = await mkdtemp(join(tmpdir(), "tidegate-schedules-"));
  const rulesFile = join(folder, "rules.json");
  const namespaces = Object.fromEntries(
    Object.entries(historySizes).map(([name, historySize]) => [name, { access: "user", historySize }]),
  );
  await writeFile(rulesFile, JSON.stringify({ namespaces }));
  const apiPort = await freePort();
  const apiUrl = `http://127.0.0.1:${apiPort}`;
  const privateApi = program("private-api", apiUrl, {
    ...redisSettings.privateApi,
    RULES_FILE: rulesFile,
    PRIVATE_API_HOST: "127.0.0.1",
    PRIVATE_API_PORT: String(apiPort),
    PRIVATE_API_TOKENS: JSON.stringify([
      { name: "gateway", token: tokens.relay, scopes: ["relay"] },
      { name: "service", token: tokens.service, scopes: ["publish", "read"] },
    ]),
  });
  const gateways: Program[] = [];
  const clientLinks: TcpProxy[] = [];
  for (const [n, redis] of redisSettings.gateways.entries()) {
    const [port, adminPort] = [await freePort(), await freePort()];
    clientLinks.push(await startTcpProxy(port));
    const settings = {
      ...redis,
      GATEWAY_HOST: "127.0.0.1",
      GATEWAY_NODE: `node-${n + 1}`,
      GATEWAY_PORT: String(port),
      GATEWAY_ADMIN_PORT: String(adminPort),
      PRIVATE_API_URL: apiUrl,
      PRIVATE_API_TOKEN: tokens.relay,
      AUTH_JWT_SECRET: jwtSecret,
    };
    gateways.push(program("gateway", `http://127.0.0.1:${adminPort}`, settings));
  }
  const programs = [privateApi, ...gateways];
  for (const started of programs) started.restart();
  const deployment: Deployment = {
    gateways,
    privateApi,
    clientLinks,
    gatewayUrls: clientLinks.map(({ port }) => `http://127.0.0.1:${port}`),
    apiUrl,
    stop: async () => {
      await Promise.all(programs.map((stopped) => stopped.kill()));
      await Promise.all(clientLinks.map((link) => link.stop()));
      await rm(folder, { recursive: true, force: true });
    },
  };
  try {
    await Promise.all(programs.map((started) => started.ready()));
  } catch (error) {
    await deployment.stop();
    throw error;
  }
  return deployment;
}

function program(name: "gateway" | "private-api", healthUrl: string, settings: Record<string, string>): Program {
  let running: Spawned | undefined;
  let died = false;
  return {
    name: settings["GATEWAY_NODE"] ?? name,
    get running() {
      return running !== undefined;
    },
    get died() {
      return died;
    },
    output: () => running?.output() ?? "",
    restart: () => {
      const env = { LOG_LEVEL: "error", ...process.env, ...settings };
      const spawned = spawnProcess(process.execPath, [`${name}/main.ts`], { cwd: root, env });
      running = spawned;
      const ended = (): void => {
        if (running === spawned) died = true;
      };
      spawned.exited.then(ended, ended);
    },
    kill: async () => {
      const killed = running;
      running = undefined;
      killed?.kill("SIGKILL");
      await killed?.exited;
    },
    signal: (signal) => running?.kill(signal),
    ready: async () => {
      let health: unknown;
      const isReady = async (): Promise<boolean> => {
        const answer = await fetch(`${healthUrl}/readyz`, { signal: AbortSignal.timeout(2_000) }).catch(
          () => undefined,
        );
        health = await answer?.json();
        return (health as { status: string } | undefined)?.status === "ok";
      };
      await eventually(async () => died || isReady(), readyWithinMs).catch((error: unknown) => {
        throw new Error(`${name} is not ready: ${JSON.stringify(health)}`, { cause: error });
      });
      if (died) throw new Error(`${name} ended at its start:\n${running?.output()}`);
    },
  };
}
