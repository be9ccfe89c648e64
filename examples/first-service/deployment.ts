/** What runs in the story: Redis, the service, a private API, two gateways and HAProxy with TLS, each a process of its own. */
import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import tls from "node:tls";
import { type Certificates, makeCertificates } from "../../test/support/certificates.ts";
import { eventually } from "../../test/support/eventually.ts";
import { freePort, type Spawned, spawnProcess } from "../../test/support/processes.ts";
import { type RedisServer, startRedis } from "../../test/support/redis.ts";
import { newSecret, newServiceSecret } from "../shared/demo.ts";

const folder = import.meta.dirname;
const root = join(folder, "../..");
export const gatewayNames = ["gateway-1", "gateway-2"] as const;
export type GatewayName = (typeof gatewayNames)[number];
export type ProgramName = "service" | "private-api" | GatewayName;

/** Of the operator; each process has those that it needs. */
export interface Secrets {
  /** Signs tokens: the login service has it. */
  jwt: string;
  /** `AUTH_JWT_SECRET` of the gateways. */
  jwtAccepted: string;
  /** `RESUME_SECRET` of the gateways. */
  resume: string;
  /** `PRIVATE_API_TOKEN` of the gateways. */
  relay: string;
  /** Those that the private API knows, with their scopes. */
  apiTokens: { name: string; token: string; scopes: string[] }[];
  /** `NOTES_SECRET` of the service: the secrets that it accepts. */
  serviceAccepts: string;
  /** `NOTES_SECRET` and `NOTES_SECRET_NEW` of the private API. */
  signing: { NOTES_SECRET: string; NOTES_SECRET_NEW: string };
  /** `PUBLISH_TOKEN` of the service. */
  publish: string;
}

interface ServiceCommand {
  command: string;
  args: readonly string[];
}

interface Ports {
  service: number;
  api: number;
  https: number;
  gateways: Record<GatewayName, { public: number; admin: number }>;
}

/** Python with the packages of requirements.txt. Makes the virtual environment where it is not there. */
export function preparePython(venv: string): string {
  const python = join(venv, "bin/python");
  const requirements = join(folder, "requirements.txt");
  const isThere = existsSync(python) && works(python, "-c", "import fastapi, uvicorn, standardwebhooks");
  if (
    !isThere &&
    !(works("python3", "-m", "venv", venv) && works(python, "-m", "pip", "install", "-q", "-r", requirements))
  )
    throw new Error(`no virtual environment at ${venv}: python3 -m venv, or pip install -r ${requirements}, failed`);
  return python;
}

function works(command: string, ...args: string[]): boolean {
  return spawnSync(command, args, { stdio: ["ignore", "ignore", "inherit"] }).status === 0;
}

export class Deployment {
  readonly secrets: Secrets;
  readonly #service: ServiceCommand;
  readonly #ports: Ports;
  readonly #folder: string;
  readonly #certificates: Certificates;
  readonly #redis: RedisServer;
  readonly #running = new Map<ProgramName | "haproxy", Spawned>();
  /** Of processes that have ended. */
  #earlierOutput = "";

  private constructor(parts: {
    service: ServiceCommand;
    ports: Ports;
    folder: string;
    certificates: Certificates;
    redis: RedisServer;
  }) {
    this.#service = parts.service;
    this.#ports = parts.ports;
    this.#folder = parts.folder;
    this.#certificates = parts.certificates;
    this.#redis = parts.redis;
    const [jwt, relay, publish] = [newSecret(), newSecret(), newSecret()];
    const signing = newServiceSecret();
    this.secrets = {
      jwt,
      jwtAccepted: jwt,
      resume: newSecret(),
      relay,
      apiTokens: [
        { name: "gateway", token: relay, scopes: ["relay"] },
        { name: "notes", token: publish, scopes: ["publish", "read"] },
        { name: "operator", token: newSecret(), scopes: ["read", "operate", "users"] },
      ],
      serviceAccepts: signing,
      signing: { NOTES_SECRET: signing, NOTES_SECRET_NEW: newServiceSecret() },
      publish,
    };
  }

  /** @param python of {@link preparePython}; undefined: the service in TypeScript. */
  static async start(python: string | undefined): Promise<Deployment> {
    if (!works("haproxy", "-v")) throw new Error("the story needs HAProxy: apt-get install haproxy");
    const [certificates, redis, workFolder] = await Promise.all([
      makeCertificates(),
      startRedis({ appendOnly: true }),
      mkdtemp(join(tmpdir(), "tidegate-first-service-")),
    ]);
    // For the clients in this process.
    tls.setDefaultCACertificates([certificates.pem.ca]);
    const gateways = { public: 0, admin: 0 };
    const ports: Ports = {
      service: await freePort(),
      api: await freePort(),
      https: await freePort(),
      gateways: { "gateway-1": { ...gateways }, "gateway-2": { ...gateways } },
    };
    for (const name of gatewayNames) ports.gateways[name] = { public: await freePort(), admin: await freePort() };
    const service = python
      ? {
          command: python,
          args: ["-m", "uvicorn", "service:app", "--port", String(ports.service), "--log-level", "warning"],
        }
      : { command: process.execPath, args: ["service.ts"] };
    const deployment = new Deployment({ service, ports, folder: workFolder, certificates, redis });
    await deployment.#begin();
    return deployment;
  }

  /** Where clients connect. */
  get url(): string {
    return `https://localhost:${this.#ports.https}`;
  }

  get apiUrl(): string {
    return `http://127.0.0.1:${this.#ports.api}`;
  }

  get operatorToken(): string {
    return this.secrets.apiTokens.find(({ name }) => name === "operator")?.token ?? "";
  }

  /** Everything that the processes have printed. */
  get log(): string {
    return this.#earlierOutput + [...this.#running.values()].map((spawned) => spawned.output()).join("");
  }

  async start(name: ProgramName): Promise<void> {
    const spawned = this.#spawn(name);
    this.#running.set(name, spawned);
    await this.#untilReady(name, spawned);
  }

  /** SIGTERM: it ends what is under way. SIGKILL: it does not. */
  async stop(name: ProgramName, signal: "SIGTERM" | "SIGKILL" = "SIGTERM"): Promise<void> {
    const spawned = this.#running.get(name);
    spawned?.kill(signal);
    await spawned?.exited;
    this.#earlierOutput += spawned?.output() ?? "";
    this.#running.delete(name);
  }

  async restart(name: ProgramName): Promise<void> {
    await this.stop(name);
    await this.start(name);
  }

  /** @param change of the text of rules.yaml. Every process has the rules soon afterwards. */
  async writeRules(change: (rules: string) => string = (rules) => rules): Promise<void> {
    const rules = await readFile(join(folder, "rules.yaml"), "utf8");
    const own = rules.replace("http://127.0.0.1:8090", `http://127.0.0.1:${this.#ports.service}`);
    await writeFile(this.#file("rules.yaml"), change(own));
  }

  async api(method: string, path: string, token: string, body?: object): Promise<{ status: number; text: string }> {
    const answer = await fetch(this.apiUrl + path, {
      method,
      headers: { authorization: `Bearer ${token}`, ...(body && { "content-type": "application/json" }) },
      ...(body && { body: JSON.stringify(body) }),
    });
    return { status: answer.status, text: await answer.text() };
  }

  async close(): Promise<void> {
    for (const spawned of this.#running.values()) {
      spawned.kill("SIGKILL");
      await spawned.exited;
    }
    await this.#redis.stop();
    await this.#certificates.stop();
    await rm(this.#folder, { recursive: true, force: true });
  }

  async #begin(): Promise<void> {
    await this.writeRules();
    const { cert, key } = this.#certificates.pem;
    await writeFile(this.#file("site.pem"), cert + key);
    const { "gateway-1": one, "gateway-2": two } = this.#ports.gateways;
    const configuration = (await readFile(join(folder, "haproxy.cfg"), "utf8"))
      .replace("127.0.0.1:8443", `127.0.0.1:${this.#ports.https}`)
      .replace("127.0.0.1:8080 port 8082", `127.0.0.1:${one.public} port ${one.admin}`)
      .replace("127.0.0.1:8180 port 8182", `127.0.0.1:${two.public} port ${two.admin}`);
    await writeFile(this.#file("haproxy.cfg"), configuration);
    await Promise.all((["private-api", "service", ...gatewayNames] as const).map((name) => this.start(name)));
    const haproxy = spawnProcess("haproxy", ["-db", "-f", "haproxy.cfg"], { cwd: this.#folder });
    this.#running.set("haproxy", haproxy);
    await answers("haproxy", haproxy, `${this.url}/`);
  }

  #spawn(name: ProgramName): Spawned {
    const { secrets } = this;
    if (name === "service") {
      const env = {
        NOTES_SECRET: secrets.serviceAccepts,
        PUBLISH_TOKEN: secrets.publish,
        PRIVATE_API_URL: this.apiUrl,
        PYTHONDONTWRITEBYTECODE: "1",
      };
      const { command, args } = this.#service;
      return spawnProcess(command, args, { cwd: folder, env: { ...env, PORT: String(this.#ports.service) } });
    }
    // Restarts find the compiled code of the first start.
    const common = { REDIS_URL: this.#redis.url, LOG_LEVEL: "warn", NODE_COMPILE_CACHE: this.#file("compiled") };
    if (name === "private-api") {
      return program("private-api/main.ts", {
        ...common,
        ...secrets.signing,
        PRIVATE_API_HOST: "127.0.0.1",
        PRIVATE_API_PORT: String(this.#ports.api),
        PRIVATE_API_TOKENS: JSON.stringify(secrets.apiTokens),
        RULES_FILE: this.#file("rules.yaml"),
      });
    }
    const { public: port, admin } = this.#ports.gateways[name];
    return program("gateway/main.ts", {
      ...common,
      GATEWAY_NODE: name,
      GATEWAY_HOST: "127.0.0.1",
      GATEWAY_PORT: String(port),
      GATEWAY_ADMIN_PORT: String(admin),
      GATEWAY_MAX_CONNECTIONS: "1000",
      GATEWAY_DRAIN_SECONDS: "4",
      TRUSTED_PROXIES: "127.0.0.1",
      PRIVATE_API_URL: this.apiUrl,
      PRIVATE_API_TOKEN: secrets.relay,
      AUTH_JWT_SECRET: secrets.jwtAccepted,
      RESUME_SECRET: secrets.resume,
    });
  }

  async #untilReady(name: ProgramName, spawned: Spawned): Promise<void> {
    const { service, api, gateways } = this.#ports;
    const port = name === "service" ? service : name === "private-api" ? api : gateways[name].admin;
    // The service has no such path: any answer will do.
    await answers(name, spawned, `http://127.0.0.1:${port}/readyz`, ({ ok }) => ok || name === "service");
  }

  #file(name: string): string {
    return join(this.#folder, name);
  }
}

/** Resolves once the process answers. @throws where it ends before, with what it printed */
async function answers(
  name: string,
  spawned: Spawned,
  url: string,
  isReady: (answer: Response) => boolean = () => true,
): Promise<void> {
  let isOver = false;
  void spawned.exited.then(() => (isOver = true));
  await eventually(async () => {
    if (isOver) throw new Error(`${name} has ended:\n${spawned.output()}`);
    const answer = await fetch(url).catch(() => undefined);
    return answer !== undefined && isReady(answer);
  });
}

function program(file: string, env: Record<string, string>): Spawned {
  return spawnProcess(process.execPath, [file], { cwd: root, env });
}
