/** The attacked deployment: one that this process starts and restarts, or one that runs elsewhere. */
import { spawnProcess, type Spawned } from "../../test/support/processes.ts";
import { Fleet } from "../rig/fleet.ts";
import { putRules } from "../rig/private-api.ts";
import { serviceSecret } from "../rig/service-secret.ts";
import { mainThreadUsage, type ThreadUsage } from "../checks/usage.ts";
import { attackedNamespace, type TargetAddresses } from "./attack.ts";

export const programs = ["gateway", "private-api"] as const;
export type Program = (typeof programs)[number];

/** What an attack requires of the deployment. */
export interface DeploymentNeeds {
  readonly gatewaySettings?: Readonly<Record<string, string>>;
  readonly descriptors?: number;
}

export interface AttackedDeployment {
  readonly target: TargetAddresses;
  /** Memory and CPU time: of the main thread where this process runs the deployment, else of the process. */
  usage(program: Program): ThreadUsage | undefined;
  /** Programs that ended by themselves since the last start. */
  readonly died: readonly Program[];
  /** Restarts both programs on their ports. */
  restart(): Promise<void>;
  /** Errors and warnings that the programs logged. */
  output(): string;
  stop(): Promise<void>;
}

/** The size of a container. Without a limit the heap grows by garbage that was never collected, and memory says nothing. */
const heapMiB = 512;
/** As docs/operations.md recommends: otherwise a burst leaves a young generation of up to 96 MiB. */
const semiSpaceMiB = 8;
const root = `${import.meta.dirname}/../..`;

/** Maps events to services and their behaviours. */
function rulesFor(serviceUrl: string): object {
  const service = { url: serviceUrl, secret: serviceSecret, timeoutMs: 5_000 };
  return {
    namespaces: {
      [attackedNamespace]: { historySize: 1_000 },
      present: { access: "user", presence: true, joinLeave: true },
    },
    services: { honest: service, broken: service },
    routes: [
      { event: "attack.echo", service: "honest", path: "/{event}", mode: "call" },
      { event: "attack.*", service: "broken", path: "/{event}", mode: "call" },
    ],
    hooks: { connect: "honest", subscribe: "honest" },
  };
}

async function startService(environment: Record<string, string>): Promise<{ spawned: Spawned; port: number }> {
  const spawned = spawnProcess(process.execPath, ["loadtest/attack/service.ts"], { cwd: root, env: environment });
  const port = Number(/\d+$/.exec(await spawned.printed("listening on"))?.[0]);
  return { spawned, port };
}

export async function startDeployment(needs: DeploymentNeeds): Promise<AttackedDeployment> {
  const service = await startService({});
  const serviceUrl = `http://127.0.0.1:${service.port}`;
  const fleet = new Fleet();
  try {
    const started = await fleet.start({
      gateways: 1,
      ...{ heapMiB, semiSpaceMiB },
      ...(needs.descriptors !== undefined && { descriptors: needs.descriptors }),
      gatewaySettings: { AUTH_JWKS_URL: `${serviceUrl}/keys`, ...needs.gatewaySettings },
    });
    await putRules(started, rulesFor(serviceUrl));
    const [gateway = "", admin = ""] = [started.gatewayUrls[0]?.replace(/^ws/, "http"), started.adminUrls[0]];
    const target = {
      ...{ gateway, admin, api: started.privateApi },
      ...{ apiToken: started.privateApiToken, jwtSecret: started.jwtSecret },
    };
    const serverOf = (program: Program): (typeof fleet.gateways)[number] | undefined =>
      program === "gateway" ? fleet.gateways[0] : fleet.privateApis[0];
    return {
      target,
      usage: (program) => {
        const pid = serverOf(program)?.pid;
        return pid === undefined ? undefined : mainThreadUsage(pid);
      },
      get died() {
        return programs.filter((program) => fleet.died.includes(program));
      },
      restart: async () => {
        for (const program of programs) {
          await serverOf(program)?.kill();
          await serverOf(program)?.start();
        }
        fleet.died.length = 0;
      },
      output: () => fleet.output(),
      stop: async () => {
        await fleet.stop();
        service.spawned.kill("SIGKILL");
      },
    };
  } catch (error) {
    await fleet.stop();
    service.spawned.kill("SIGKILL");
    throw error;
  }
}

/** @param options.servicePort the port to which the deployment's rules route `attack.*` */
export async function reachDeployment(
  target: TargetAddresses,
  options: { serviceHost: string; servicePort: number },
): Promise<AttackedDeployment> {
  const { serviceHost, servicePort } = options;
  const { spawned } = await startService({ SERVICE_HOST: serviceHost, SERVICE_PORT: String(servicePort) });
  const latest = new Map<Program, ThreadUsage | undefined>();
  const scrape = (): void => {
    void readMetrics(target.admin).then((usage) => latest.set("gateway", usage));
    void readMetrics(target.api).then((usage) => latest.set("private-api", usage));
  };
  scrape();
  const timer = setInterval(scrape, scrapeEveryMs);
  return {
    target,
    usage: (program) => latest.get(program),
    died: [],
    restart: async () => undefined,
    output: () => "",
    stop: async () => {
      clearInterval(timer);
      spawned.kill("SIGKILL");
    },
  };
}

const scrapeEveryMs = 1_000;
const scrapeWithinMs = 2_000;

/** CPU time and memory from the program's own metrics. */
async function readMetrics(url: string): Promise<ThreadUsage | undefined> {
  const signal = AbortSignal.timeout(scrapeWithinMs);
  const text = await fetch(new URL("/metrics", url), { signal }).then(
    async (answer) => answer.text(),
    () => "",
  );
  const value = (name: string): number => Number(new RegExp(`^${name} (\\S+)`, "m").exec(text)?.[1]);
  const [seconds, rssBytes] = [value("process_cpu_seconds_total"), value("process_resident_memory_bytes")];
  return Number.isNaN(seconds) ? undefined : { atMs: Date.now(), cpuMs: seconds * 1_000, rssBytes };
}
