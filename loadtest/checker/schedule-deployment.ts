/** Gateways and private APIs as processes that can be killed, frozen, stopped and restarted on their ports. */
import { mkdtemp, rename, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { withDeadline } from "../../shared/runtime/timing.ts";
import { eventually } from "../../test/support/eventually.ts";
import { jwtSecret, tokens } from "../../test/support/fleet.ts";
import { freePort, type Spawned, spawnProcess } from "../../test/support/processes.ts";
import { startTcpProxy, type TcpProxy } from "../../test/support/tcp-proxy.ts";

const root = join(import.meta.dirname, "../..");
const clockModule = pathToFileURL(join(import.meta.dirname, "stepped-clock.ts")).href;
/** A dozen processes may start at once, on a machine that is busy besides. */
const readyWithinMs = 120_000;
const stopWithinMs = 120_000;

export interface Program {
  readonly name: string;
  kill(): Promise<void>;
  /** SIGTERM; resolves when the process is gone. */
  terminate(): Promise<void>;
  restart(): void;
  signal(signal: NodeJS.Signals): void;
  /** Its wall clock is so far ahead of the machine's from now on. */
  stepClock(aheadMs: number): Promise<void>;
  readonly running: boolean;
  /** Ended by itself. */
  readonly died: boolean;
  output(): string;
  ready(): Promise<void>;
}

export interface Deployment {
  readonly gateways: readonly Program[];
  readonly privateApis: readonly Program[];
  readonly programs: readonly Program[];
  /** Between clients and each gateway. */
  readonly clientLinks: readonly TcpProxy[];
  readonly gatewayUrls: readonly string[];
  readonly apiUrls: readonly string[];
  /** Of the first private API. */
  readonly apiUrl: string;
  /** Puts other rules in force; resolves when the file is written, before the programs have read it. */
  changeRules(rules: object): Promise<void>;
  stop(): Promise<void>;
}

/**
 * @param options each program's own settings, and the rules to begin with
 * @param options.servers what the deployment stores in: stopped where it does not start
 */
export async function startDeployment(options: {
  servers?: { stop(): Promise<void> };
  gateways: readonly Readonly<Record<string, string>>[];
  privateApis: readonly Readonly<Record<string, string>>[];
  rules: object;
}): Promise<Deployment> {
  const folder = await mkdtemp(join(tmpdir(), "tidegate-schedules-"));
  const rulesFile = join(folder, "rules.json");
  const changeRules = async (rules: object): Promise<void> => {
    await writeFile(`${rulesFile}.new`, JSON.stringify(rules));
    await rename(`${rulesFile}.new`, rulesFile);
  };
  await changeRules(options.rules);
  const privateApis: Program[] = [];
  const apiUrls: string[] = [];
  for (const own of options.privateApis) {
    const port = await freePort();
    const url = `http://127.0.0.1:${port}`;
    apiUrls.push(url);
    const settings = {
      ...own,
      RULES_FILE: rulesFile,
      PRIVATE_API_HOST: "127.0.0.1",
      PRIVATE_API_PORT: String(port),
      PRIVATE_API_TOKENS: JSON.stringify([
        { name: "gateway", token: tokens.relay, scopes: ["relay"] },
        { name: "service", token: tokens.service, scopes: ["publish", "read", "rules", "operate"] },
      ]),
    };
    privateApis.push(program(folder, "private-api", `private-api-${privateApis.length + 1}`, url, settings));
  }
  const [apiUrl = ""] = apiUrls;
  const gateways: Program[] = [];
  const clientLinks: TcpProxy[] = [];
  for (const [n, own] of options.gateways.entries()) {
    const [port, adminPort] = [await freePort(), await freePort()];
    clientLinks.push(await startTcpProxy(port));
    const node = `node-${n + 1}`;
    const settings = {
      ...own,
      GATEWAY_HOST: "127.0.0.1",
      GATEWAY_NODE: node,
      GATEWAY_PORT: String(port),
      GATEWAY_ADMIN_PORT: String(adminPort),
      PRIVATE_API_URL: apiUrl,
      PRIVATE_API_TOKEN: tokens.relay,
      AUTH_JWT_SECRET: jwtSecret,
    };
    gateways.push(program(folder, "gateway", node, `http://127.0.0.1:${adminPort}`, settings));
  }
  const programs = [...privateApis, ...gateways];
  for (const started of programs) started.restart();
  const deployment: Deployment = {
    gateways,
    privateApis,
    programs,
    clientLinks,
    gatewayUrls: clientLinks.map(({ port }) => `http://127.0.0.1:${port}`),
    apiUrls,
    apiUrl,
    changeRules,
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
    await options.servers?.stop();
    throw error;
  }
  return deployment;
}

function program(
  folder: string,
  kind: "gateway" | "private-api",
  name: string,
  healthUrl: string,
  settings: Readonly<Record<string, string>>,
): Program {
  const clockFile = join(folder, `${name}.clock`);
  let running: Spawned | undefined;
  let died = false;
  const end = async (signal: "SIGKILL" | "SIGTERM"): Promise<void> => {
    const ended = running;
    running = undefined;
    ended?.kill(signal);
    await ended?.exited;
  };
  return {
    name,
    get running() {
      return running !== undefined;
    },
    get died() {
      return died;
    },
    output: () => running?.output() ?? "",
    restart: () => {
      const env = { LOG_LEVEL: "error", ...process.env, ...settings, CLOCK_FILE: clockFile };
      const command = ["--import", clockModule, `${kind}/main.ts`];
      const spawned = spawnProcess(process.execPath, command, { cwd: root, env });
      running = spawned;
      const ended = (): void => {
        if (running === spawned) died = true;
      };
      spawned.exited.then(ended, ended);
    },
    kill: async () => end("SIGKILL"),
    terminate: async () => {
      const terminated = running;
      const inTime = await withDeadline(
        end("SIGTERM").then(() => true),
        stopWithinMs,
        () => false,
      );
      if (inTime) return;
      terminated?.kill("SIGKILL");
      throw new Error(`${name} did not stop within ${stopWithinMs} ms\n${terminated?.output() ?? ""}`);
    },
    signal: (signal) => running?.kill(signal),
    stepClock: async (aheadMs) => {
      await writeFile(clockFile, String(aheadMs));
      running?.kill("SIGUSR2");
    },
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
        const printed = running?.output() ?? "";
        throw new Error(`${name} is not ready: ${JSON.stringify(health)}\n${printed}`, { cause: error });
      });
      if (died) throw new Error(`${name} ended by itself:\n${running?.output()}`);
    },
  };
}
