/**
 * Everything in one process: gateway, private API, the board's service and its page. In memory, or on Redis where
 * configured. Every setting of the two programs applies; missing secrets are generated for this run.
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
import { type GatewayConfig, readGatewayConfig, unknownGatewaySettings } from "../../gateway/config.ts";
import { createGateway } from "../../gateway/gateway.ts";
import { type PrivateApiConfig, readPrivateApiConfig, unknownPrivateApiSettings } from "../../private-api/config.ts";
import { createPrivateApi } from "../../private-api/private-api.ts";
import { warnOfSettings } from "../../shared/program/common-settings.ts";
import { Lifecycle, runProgram, type Service } from "../../shared/runtime/lifecycle.ts";
import { createLogger } from "../../shared/runtime/logging.ts";
import { redisTarget } from "../../shared/redis/target.ts";
import { checkRules } from "../../shared/rules/document.ts";
import { parseDocumentText } from "../../shared/documents/parse.ts";
import type { DocumentStore } from "../../shared/documents/contract.ts";
import { port } from "../../shared/runtime/setting-kinds.ts";
import { type Environment, orExit, readSettings } from "../../shared/runtime/settings.ts";
import { createStores } from "../../shared/program/stores.ts";
import { readableLog } from "./readable-log.ts";
import { createBoardService } from "./service.ts";

const stopDeadlineMs = 10_000;
const demoTokenLifetime = "8h";
const generated = {
  relayToken: randomBytes(32).toString("base64url"),
  publishToken: randomBytes(32).toString("base64url"),
  boardSecret: `whsec_${randomBytes(32).toString("base64")}`,
};
const environment: Environment = {
  GATEWAY_HOST: "127.0.0.1",
  PRIVATE_API_HOST: "127.0.0.1",
  GATEWAY_NODE: "embedded",
  LOG_LEVEL: "warn",
  AUTH_JWT_SECRET: randomBytes(32).toString("base64url"),
  PRIVATE_API_TOKENS: "[]",
  PRIVATE_API_TOKEN: generated.relayToken,
  BOARD_SECRET: generated.boardSecret,
  ...process.env,
};

const privateApiConfig = orExit((): PrivateApiConfig => {
  const config = readPrivateApiConfig(environment, { embedded: true });
  const own: typeof config.PRIVATE_API_TOKENS = [
    { name: "embedded gateway", token: generated.relayToken, scopes: ["relay"] },
    { name: "board", token: generated.publishToken, scopes: ["publish", "read"] },
  ];
  return { ...config, PRIVATE_API_TOKENS: [...config.PRIVATE_API_TOKENS, ...own] };
});
const gatewayConfig = orExit(() => readGatewayConfig(environment, { embedded: true }));

const { BOARD_PORT } = orExit(() => readSettings({ BOARD_PORT: port(8083) }, environment));

const logger = createLogger({
  name: "tidegate",
  level: gatewayConfig.LOG_LEVEL,
  destination: readableLog((text) => process.stdout.write(text)),
});
const unknown = new Set([...unknownGatewaySettings(environment), ...unknownPrivateApiSettings(environment)]);
warnOfSettings(environment, [...unknown], logger);
const stores = createStores(redisTarget(gatewayConfig), logger);
const privateApi = createPrivateApi({ config: privateApiConfig, environment, ...stores, logger });

/** The parts that need the address of an earlier part. */
class Demo implements Service {
  readonly #running = new Lifecycle(logger);

  async start(): Promise<void> {
    const privateApiUrl = `http://127.0.0.1:${privateApi.door.port}`;
    const board = createBoardService({
      secret: environment["BOARD_SECRET"] ?? generated.boardSecret,
      privateApiUrl,
      publishToken: generated.publishToken,
    });
    board.listen(BOARD_PORT, "127.0.0.1");
    await once(board, "listening");
    this.#running.add("board service", closing(board));
    if (privateApiConfig.RULES_FILE === undefined) await storeBoardRules(stores.rulesStore, board);

    const config = { ...gatewayConfig, PRIVATE_API_URL: [privateApiUrl], PRIVATE_API_TOKEN: generated.relayToken };
    const gateway = createGateway({ config, environment, ...stores, logger });
    addDemoRoutes(gateway.publicDoor.app);
    this.#running.add("gateway", gateway);
    await this.#running.start();
    const url = `http://${config.GATEWAY_HOST === "0.0.0.0" ? "localhost" : config.GATEWAY_HOST}`;
    process.stdout.write(await whatToTry(`${url}:${gateway.publicDoor.port}`, privateApiUrl));
  }

  async stop(): Promise<void> {
    await this.#running.stop();
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

/** Stores the board's rules unless rules are stored already. */
async function storeBoardRules(store: DocumentStore, board: Server): Promise<void> {
  if (await store.read()) return;
  const document = checkRules(
    await parseDocumentText("rules", await readFile(new URL("rules.yaml", import.meta.url), "utf8")),
  );
  const service = document.services?.["board"];
  if (service) service.url = `http://127.0.0.1:${(board.address() as AddressInfo).port}`;
  await store.put({ document, changedAt: Date.now() });
}

function addDemoRoutes(app: FastifyInstance): void {
  const root = fileURLToPath(new URL("page", import.meta.url));
  const sdk = fileURLToPath(new URL("../../client/dist", import.meta.url));
  app.register(fastifyStatic, { root });
  app.get("/tidegate.js", (_request, reply) => reply.sendFile("browser.js", sdk));
  app.get<{ Querystring: { user?: string } }>("/demo/token", async (request) => ({
    token: await demoToken(request.query.user ?? "guest", gatewayConfig),
  }));
}

async function demoToken(user: string, config: GatewayConfig): Promise<string> {
  const token = new SignJWT({ channels: ["board:*"] })
    .setProtectedHeader({ alg: "HS256" })
    .setSubject(user)
    .setIssuedAt()
    .setExpirationTime(demoTokenLifetime);
  if (config.AUTH_ISSUER !== undefined) token.setIssuer(config.AUTH_ISSUER);
  if (config.AUTH_AUDIENCE !== undefined) token.setAudience(config.AUTH_AUDIENCE);
  return token.sign(new TextEncoder().encode(config.AUTH_JWT_SECRET));
}

async function whatToTry(publicUrl: string, privateApiUrl: string): Promise<string> {
  return `
Tidegate is running.

  ${privateApiConfig.RULES_FILE === undefined ? `Open ${publicUrl} in two windows and move a card.` : `The rules are those of ${privateApiConfig.RULES_FILE}; clients connect to ${publicUrl}`}

  Publish to everyone on a channel, as a service would:
    curl ${privateApiUrl}/v1/publish -H 'authorization: Bearer ${generated.publishToken}' \\
      -H 'content-type: application/json' -d '{"channel":"board:demo","event":"notice","data":{"text":"Hello"}}'

  Send a webhook, as a provider would:
    curl ${publicUrl}/hooks/notice -H 'content-type: application/json' -d '{"board":"demo","text":"Hello from a webhook"}'

  Connect a stock Socket.IO client with this token (user "ada"):
    io("${publicUrl}", { transports: ["websocket"], auth: { token: "${await demoToken("ada", gatewayConfig)}" } })

  The private API describes itself at ${privateApiUrl}/openapi.json
  Stop with Ctrl-C.
`;
}

const program = new Lifecycle(logger);
program.add("stores", stores);
program.add("private API", privateApi);
program.add("demo", new Demo());
const settings = { ...privateApiConfig, ...gatewayConfig, BOARD_PORT };
await runProgram(program, { settings, logger, stopDeadlineMs });
