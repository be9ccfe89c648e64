/** Gateways behind proxies and private APIs, as processes with ports of their own. */
import { mkdtemp, rename, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { jwtSecret, tokens } from "../../test/support/fleet.ts";
import { freePort } from "../../test/support/processes.ts";
import { startTcpProxy, type TcpProxy } from "../../test/support/tcp-proxy.ts";
import { Program } from "./schedule-program.ts";

export interface Deployment {
  readonly gateways: readonly Program[];
  readonly privateApis: readonly Program[];
  readonly programs: readonly Program[];
  /** Between clients and each gateway. */
  readonly clientLinks: readonly TcpProxy[];
  readonly gatewayUrls: readonly string[];
  /** Where the gateways themselves listen, for balancers. */
  readonly gatewayPorts: readonly { readonly port: number; readonly adminPort: number }[];
  readonly apiUrls: readonly string[];
  /** Of the first private API. */
  readonly apiUrl: string;
  /** A line for each program that ended by itself. */
  deaths(): string[];
  /** For the trace of a violation: what the servers and the programs printed last. */
  lastOutput(): string[];
  /** Puts other rules in force; resolves when the file is written, before the programs have read it. */
  changeRules(rules: object): Promise<void>;
  stop(): Promise<void>;
}

/** What a deployment stores in. */
export interface Servers {
  /** Lines on primaries that were replaced, each with its time of day. */
  takeovers?(): string[];
  stop(): Promise<void>;
}

type Settings = Readonly<Record<string, string>>;

/** Characters of each program's output in a trace. */
const maxOutput = 4_000;

/**
 * @param options each program's own settings, and the rules to begin with
 * @param options.servers stopped where the deployment does not start
 */
export async function startDeployment(options: {
  servers?: Servers;
  gateways: readonly Settings[];
  privateApis: readonly Settings[];
  rules: object;
}): Promise<Deployment> {
  const folder = await mkdtemp(join(tmpdir(), "tidegate-schedules-"));
  const rulesFile = join(folder, "rules.json");
  const changeRules = async (rules: object): Promise<void> => {
    await writeFile(`${rulesFile}.new`, JSON.stringify(rules));
    await rename(`${rulesFile}.new`, rulesFile);
  };
  await changeRules(options.rules);
  const apiPorts = await ports(options.privateApis.length);
  const apiUrls = apiPorts.map((port) => `http://127.0.0.1:${port}`);
  const [apiUrl = ""] = apiUrls;
  const privateApis = options.privateApis.map((own, n) =>
    privateApi(n + 1, apiPorts[n] ?? 0, { own, rulesFile, folder }),
  );
  const publicPorts = await ports(options.gateways.length);
  const adminPorts = await ports(options.gateways.length);
  const gatewayPorts = publicPorts.map((port, n) => ({ port, adminPort: adminPorts[n] ?? 0 }));
  const clientLinks: TcpProxy[] = [];
  for (const port of publicPorts) clientLinks.push(await startTcpProxy(port));
  const gateways = options.gateways.map((own, n) =>
    gateway(`node-${n + 1}`, publicPorts[n] ?? 0, adminPorts[n] ?? 0, { own, apiUrl, folder }),
  );
  const programs = [...privateApis, ...gateways];
  for (const program of programs) program.restart();
  const stop = async (): Promise<void> => {
    await Promise.all(programs.map(async (program) => program.kill()));
    await Promise.all(clientLinks.map(async (link) => link.stop()));
    await rm(folder, { recursive: true, force: true });
  };
  try {
    await Promise.all(programs.map(async (program) => program.ready()));
  } catch (error) {
    await stop();
    await options.servers?.stop();
    throw error;
  }
  const gatewayUrls = clientLinks.map(({ port }) => `http://127.0.0.1:${port}`);
  const places = { clientLinks, gatewayUrls, gatewayPorts, apiUrls, apiUrl };
  return {
    ...{ gateways, privateApis, programs, ...places, changeRules, stop },
    deaths: () =>
      programs.filter(({ died }) => died).map((program) => `${program.name} died: ${program.output().slice(-2_000)}`),
    lastOutput: () => [
      ...(options.servers?.takeovers?.() ?? []),
      ...programs.map((program) => `${program.name} printed:\n${program.output().slice(-maxOutput)}`),
    ],
  };
}

async function ports(count: number): Promise<number[]> {
  const free: number[] = [];
  while (free.length < count) free.push(await freePort());
  return free;
}

function privateApi(
  number: number,
  port: number,
  given: { own: Settings; rulesFile: string; folder: string },
): Program {
  return new Program({
    kind: "private-api",
    name: `private-api-${number}`,
    healthUrl: `http://127.0.0.1:${port}`,
    settings: {
      ...given.own,
      RULES_FILE: given.rulesFile,
      PRIVATE_API_HOST: "127.0.0.1",
      PRIVATE_API_PORT: String(port),
      PRIVATE_API_TOKENS: JSON.stringify([
        { name: "gateway", token: tokens.relay, scopes: ["relay"] },
        { name: "service", token: tokens.service, scopes: ["publish", "read", "rules", "operate", "endpoints"] },
        { name: "reader", token: tokens.reader, scopes: ["read"] },
      ]),
    },
    folder: given.folder,
  });
}

function gateway(
  node: string,
  port: number,
  adminPort: number,
  given: { own: Settings; apiUrl: string; folder: string },
): Program {
  return new Program({
    kind: "gateway",
    name: node,
    healthUrl: `http://127.0.0.1:${adminPort}`,
    settings: {
      ...given.own,
      GATEWAY_HOST: "127.0.0.1",
      GATEWAY_NODE: node,
      GATEWAY_PORT: String(port),
      GATEWAY_ADMIN_PORT: String(adminPort),
      PRIVATE_API_URL: given.apiUrl,
      PRIVATE_API_TOKEN: tokens.relay,
      AUTH_JWT_SECRET: jwtSecret,
    },
    folder: given.folder,
  });
}
