/**
 * Runs an example in one process: gateway, private API, its service and its page. In memory, or on Redis where configured.
 * Every setting of the two programs applies; missing secrets are generated for this run.
 *
 * For demos only: `/demo/token` gives a token to every caller.
 */
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { readFile } from "node:fs/promises";
import type { Server } from "node:http";
import type { AddressInfo } from "node:net";
import { fileURLToPath } from "node:url";
import fastifyStatic from "@fastify/static";
import type { FastifyInstance } from "fastify";
import { SignJWT } from "jose";
import { type GatewayConfig, gatewaySettings } from "../../gateway/config.ts";
import { createGateway } from "../../gateway/gateway.ts";
import { type PrivateApiConfig, privateApiSettings } from "../../private-api/config.ts";
import { createPrivateApi, type PrivateApi } from "../../private-api/private-api.ts";
import type { DocumentStore } from "../../shared/documents/contract.ts";
import { parseDocumentText } from "../../shared/documents/parse.ts";
import { warnOfSettings } from "../../shared/program/common-settings.ts";
import { createStores, type Stores } from "../../shared/program/stores.ts";
import { cellTargets } from "../../shared/redis/target.ts";
import { checkRules } from "../../shared/rules/document.ts";
import type { RulesDocument } from "../../shared/rules/schema.ts";
import { Lifecycle, runProgram, type Service } from "../../shared/runtime/lifecycle.ts";
import { createLogger, type Logger } from "../../shared/runtime/logging.ts";
import { type Environment, orExit } from "../../shared/runtime/settings.ts";
import { readableLog } from "./readable-log.ts";

export interface Example {
  /** With `rules.yaml` and, unless {@link hasOwnPage}, `page/`. */
  readonly folder: URL;
  /** Its service serves the page. */
  readonly hasOwnPage?: boolean;
  /** Its service's name in `rules.yaml`, where events go to a service. */
  readonly serviceName?: string;
  /** Secrets of the example; settings of the two programs. */
  readonly environment: Environment;
  /** Ports of the example, by the name of their setting. */
  readonly ports: Readonly<Record<string, number>>;
  /** Of the tokens that `/demo/token` gives. */
  readonly claims: Readonly<Record<string, unknown>>;
  /** Started before the two programs and stopped after them, by name. */
  readonly beneath?: Readonly<Record<string, Service>>;
  /** Starts the service and what else the example has. */
  begin(api: DemoApi): Promise<Begun>;
  /** The gateway is open. Resolves with what to print. */
  opened(doors: DemoDoors): Promise<string>;
}

export interface Begun {
  /** Of the service that {@link Example.serviceName} names. */
  readonly serviceUrl?: string;
  /** By name: `/demo/{name}` leads to the URL. */
  readonly links?: Readonly<Record<string, string>>;
}

/** What the example's service needs. */
export interface DemoApi {
  readonly privateApiUrl: string;
  /** A token with the scopes `publish`, `read`, `operate` and `endpoints`. */
  readonly publishToken: string;
  /** Listens on a port; the demo closes the server at its end. Resolves with the URL. */
  listen(name: string, server: Server, port: number): Promise<string>;
}

export interface DemoDoors extends Omit<DemoApi, "listen"> {
  readonly publicUrl: string;
  /** The file with rules of the user's own. */
  readonly rulesFile: string | undefined;
  /** In force. */
  readonly rules: RulesDocument;
  tokenFor(user: string): Promise<string>;
}

interface Parts {
  readonly environment: Environment;
  readonly gatewayConfig: GatewayConfig;
  readonly privateApiConfig: PrivateApiConfig;
  readonly privateApi: PrivateApi;
  readonly stores: Stores;
  readonly logger: Logger;
}

const stopDeadlineMs = 10_000;
const tokenLifetime = "8h";
const relayToken = newSecret();
const publishToken = newSecret();

export function newSecret(): string {
  return randomBytes(32).toString("base64url");
}

/** As services have one in the rules. */
export function newServiceSecret(): string {
  return `whsec_${randomBytes(32).toString("base64")}`;
}

export async function runDemo(example: Example): Promise<void> {
  const environment: Environment = {
    GATEWAY_HOST: "127.0.0.1",
    PRIVATE_API_HOST: "127.0.0.1",
    GATEWAY_NODE: "embedded",
    GATEWAY_MAX_CONNECTIONS: "1000",
    LOG_LEVEL: "warn",
    AUTH_JWT_SECRET: newSecret(),
    PRIVATE_API_TOKENS: "[]",
    PRIVATE_API_TOKEN: relayToken,
    ...example.environment,
  };
  const privateApiConfig = orExit(() => withOwnTokens(privateApiSettings.read(environment, { embedded: true })));
  const gatewayConfig = orExit(() => gatewaySettings.read(environment, { embedded: true }));
  const logger = createLogger({
    name: "tidegate",
    level: gatewayConfig.LOG_LEVEL,
    destination: readableLog((text) => process.stdout.write(text)),
  });
  const unknown = new Set([...gatewaySettings.unknown(environment), ...privateApiSettings.unknown(environment)]);
  warnOfSettings(environment, [...unknown], logger);
  const stores = createStores(cellTargets(gatewayConfig), logger);
  const privateApi = createPrivateApi({ config: privateApiConfig, environment, ...stores, logger });

  const program = new Lifecycle(logger);
  for (const [name, service] of Object.entries(example.beneath ?? {})) program.add(name, service);
  program.add("stores", stores);
  program.add("private API", privateApi);
  program.add("demo", new Demo(example, { environment, gatewayConfig, privateApiConfig, privateApi, stores, logger }));
  const settings = { ...privateApiConfig, ...gatewayConfig, ...example.ports };
  await runProgram(program, { settings, logger, stopDeadlineMs });
}

function withOwnTokens(config: PrivateApiConfig): PrivateApiConfig {
  const own: typeof config.PRIVATE_API_TOKENS = [
    { name: "embedded gateway", token: relayToken, scopes: ["relay"] },
    { name: "example", token: publishToken, scopes: ["publish", "read", "operate", "endpoints"] },
  ];
  return { ...config, PRIVATE_API_TOKENS: [...config.PRIVATE_API_TOKENS, ...own] };
}

/** The parts that need the address of an earlier part. */
class Demo implements Service {
  readonly #example: Example;
  readonly #parts: Parts;
  readonly #running: Lifecycle;

  constructor(example: Example, parts: Parts) {
    this.#example = example;
    this.#parts = parts;
    this.#running = new Lifecycle(parts.logger);
  }

  async start(): Promise<void> {
    const { environment, gatewayConfig, privateApiConfig, privateApi, stores, logger } = this.#parts;
    const { RULES_FILE: rulesFile } = privateApiConfig;
    const privateApiUrl = `http://127.0.0.1:${privateApi.door.port}`;
    const { serviceUrl, links = {} } = await this.#example.begin({
      privateApiUrl,
      publishToken,
      listen: async (name, server, port) => this.#listen(name, server, port),
    });
    if (rulesFile === undefined) await storeRules(stores.rulesStore, this.#example, serviceUrl, logger);

    const config = { ...gatewayConfig, PRIVATE_API_URL: [privateApiUrl], PRIVATE_API_TOKEN: relayToken };
    const gateway = createGateway({ config, environment, ...stores, logger });
    const tokenFor = async (user: string): Promise<string> => newToken(user, this.#example.claims, gatewayConfig);
    if (this.#example.hasOwnPage !== true) addPages(gateway.publicDoor.app, this.#example.folder, tokenFor);
    for (const [name, url] of Object.entries(links)) {
      gateway.publicDoor.app.get(`/demo/${name}`, (_request, reply) => reply.redirect(url));
    }
    this.#running.add("gateway", gateway);
    await this.#running.start();
    const host = config.GATEWAY_HOST === "0.0.0.0" ? "localhost" : config.GATEWAY_HOST;
    const publicUrl = `http://${host}:${gateway.publicDoor.port}`;
    const rules = ((await stores.rulesStore.read())?.document ?? {}) as RulesDocument;
    const doors = { publicUrl, privateApiUrl, publishToken, rulesFile, rules, tokenFor };
    process.stdout.write(await this.#example.opened(doors));
  }

  async stop(): Promise<void> {
    await this.#running.stop();
  }

  async #listen(name: string, server: Server, port: number): Promise<string> {
    server.listen(port, "127.0.0.1");
    await once(server, "listening");
    this.#running.add(name, closing(server));
    return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  }
}

function closing(server: Server): Service {
  return {
    start: async () => undefined,
    stop: async () => {
      server.closeAllConnections();
      server.close();
    },
  };
}

/** Stores the example's rules unless rules are stored already. */
async function storeRules(
  store: DocumentStore,
  { folder, serviceName }: Example,
  serviceUrl: string | undefined,
  logger: Logger,
): Promise<void> {
  const stored = await store.read();
  if (stored) {
    if (serviceName !== undefined && !(stored.document as RulesDocument).services?.[serviceName]) {
      logger.warn(
        { service: serviceName },
        "the stored rules lack the service of this example: set another REDIS_PREFIX",
      );
    }
    return;
  }
  const document = checkRules(await parseDocumentText("rules", await readFile(new URL("rules.yaml", folder), "utf8")));
  const service = serviceName === undefined ? undefined : document.services?.[serviceName];
  if (service && serviceUrl !== undefined) service.url = serviceUrl;
  await store.put({ document });
}

function addPages(app: FastifyInstance, folder: URL, tokenFor: (user: string) => Promise<string>): void {
  const shared = fileURLToPath(new URL("page", import.meta.url));
  const sdk = fileURLToPath(new URL("../../client/dist", import.meta.url));
  app.register(fastifyStatic, { root: [fileURLToPath(new URL("page", folder)), shared] });
  app.get("/tidegate.js", (_request, reply) => reply.sendFile("browser.js", sdk));
  app.get<{ Querystring: { user?: string } }>("/demo/token", async (request) => ({
    token: await tokenFor(request.query.user ?? "guest"),
  }));
}

async function newToken(user: string, claims: Example["claims"], config: GatewayConfig): Promise<string> {
  const token = new SignJWT({ ...claims })
    .setProtectedHeader({ alg: "HS256" })
    .setSubject(user)
    .setIssuedAt()
    .setExpirationTime(tokenLifetime);
  if (config.AUTH_ISSUER !== undefined) token.setIssuer(config.AUTH_ISSUER);
  if (config.AUTH_AUDIENCE !== undefined) token.setAudience(config.AUTH_AUDIENCE);
  return token.sign(new TextEncoder().encode(config.AUTH_JWT_SECRET?.[0]));
}
