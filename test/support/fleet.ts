/** Gateways and private APIs as they run in production, within the test's process, on free ports. */
import type { DestinationStream } from "pino";
import { gatewaySettings } from "../../gateway/config.ts";
import { createGateway, type Gateway } from "../../gateway/gateway.ts";
import { defaultLiveness, type Liveness } from "../../gateway/engine/liveness.ts";
import { privateApiSettings } from "../../private-api/config.ts";
import { createPrivateApi, type PrivateApi } from "../../private-api/private-api.ts";
import type { Service } from "../../shared/runtime/lifecycle.ts";
import { createLogger } from "../../shared/runtime/logging.ts";
import type { NodeRegistry } from "../../shared/nodes/contract.ts";
import type { CellTargets, RedisTarget } from "../../shared/redis/target.ts";
import { createStores, type Stores } from "../../shared/program/stores.ts";

import { eventually } from "./eventually.ts";
import { metricsOf } from "./gateway-metrics.ts";

export const jwtSecret = "a secret of the test, long enough for HS256";
export const serviceSecret = `whsec_${Buffer.from("a service's secret, 32 bytes long").toString("base64")}`;
export const tokens = {
  relay: "relay-token-of-the-test",
  service: "service-token-of-the-test",
  reader: "reader-token-of-the-test",
};

export interface Fleet {
  readonly gateways: readonly Gateway[];
  readonly privateApi: PrivateApi;
  /** Where clients connect, one for each gateway. */
  readonly urls: readonly string[];
  readonly apiUrl: string;
  /** Everything that was logged. */
  readonly log: () => string;
  /** Calls the private API; by default with a token that may do everything a service may. */
  api(method: string, path: string, body?: unknown, options?: ApiOptions): Promise<ApiAnswer>;
  stop(): Promise<void>;
}

export interface ApiOptions {
  token?: string | null;
  headers?: Record<string, string>;
  /** Instead of a body that becomes JSON. */
  text?: string;
}

export interface ApiAnswer {
  status: number;
  headers: Headers;
  body: Record<string, unknown>;
  text: string;
}

export const privateApiTokens = JSON.stringify([
  { name: "gateway", token: tokens.relay, scopes: ["relay"] },
  { name: "service", token: tokens.service, scopes: ["publish", "users", "read", "rules", "operate", "endpoints"] },
  { name: "reader", token: tokens.reader, scopes: ["read"] },
]);

/**
 * @param options.target undefined: in memory, where there is one gateway only.
 * @param options.rules put through the API, unless a RULES_FILE is given.
 * @param options.gatewaySettings of each gateway, by its place.
 * @param options.nodeRegistry of all gateways; one in memory by default.
 * @param options.liveness what differs from the default.
 */
export async function startFleet(options: {
  target?: RedisTarget | CellTargets;
  gateways?: number;
  rules?: object;
  environment?: Record<string, string>;
  gatewaySettings?: readonly Record<string, string>[];
  nodeRegistry?: NodeRegistry;
  liveness?: Partial<Liveness>;
}): Promise<Fleet> {
  let log = "";
  const destination: DestinationStream = { write: (line) => void (log += line) };
  const logger = createLogger({ name: "fleet", level: "debug", destination });
  const environment: Record<string, string> = {
    GATEWAY_HOST: "127.0.0.1",
    GATEWAY_PORT: "0",
    GATEWAY_ADMIN_PORT: "0",
    // Nobody waits long for the others of a fleet that is stopped as a whole.
    GATEWAY_DRAIN_SECONDS: "1",
    PRIVATE_API_HOST: "127.0.0.1",
    PRIVATE_API_PORT: "0",
    PRIVATE_API_TOKEN: tokens.relay,
    PRIVATE_API_TOKENS: privateApiTokens,
    AUTH_JWT_SECRET: jwtSecret,
    // A registry that has just begun gives a part of the budget only.
    GATEWAY_ADMISSIONS_PER_SECOND: "100000",
    SERVICE_SECRET: serviceSecret,
    ...options.environment,
  };
  const begun: Service[] = [];
  async function begin<S extends Service>(service: S): Promise<S> {
    begun.push(service);
    await service.start();
    return service;
  }
  /** With Redis each program has connections of its own, as in production. */
  const inMemory = options.target ? undefined : await begin(createStores(undefined, logger));
  async function stores(): Promise<Stores> {
    return inMemory ?? begin(createStores(options.target, logger));
  }

  const config = privateApiSettings.read(environment, { embedded: true });
  const privateApi = await begin(createPrivateApi({ config, environment, ...(await stores()), logger }));
  const apiUrl = `http://127.0.0.1:${privateApi.door.port}`;

  async function api(method: string, path: string, body?: unknown, given: ApiOptions = {}): Promise<ApiAnswer> {
    const { token = tokens.service, headers = {}, text } = given;
    const content = text ?? (body === undefined ? undefined : JSON.stringify(body));
    const answer = await fetch(apiUrl + path, {
      method,
      headers: {
        ...(token !== null && { authorization: `Bearer ${token}` }),
        ...(content !== undefined && { "content-type": "application/json" }),
        ...headers,
      },
      ...(content !== undefined && { body: content }),
    });
    const answered = await answer.text();
    const isJson = answer.headers.get("content-type")?.includes("json") && !answered.includes("\n");
    return {
      status: answer.status,
      headers: answer.headers,
      text: answered,
      body: isJson ? (JSON.parse(answered) as Record<string, unknown>) : {},
    };
  }

  const gateways: Gateway[] = [];
  const given = options.nodeRegistry && { nodeRegistry: options.nodeRegistry };
  const liveness = { ...defaultLiveness, ...options.liveness };
  for (let i = 0; i < (options.gateways ?? 1); i++) {
    const own = { GATEWAY_NODE: `node-${i + 1}`, PRIVATE_API_URL: apiUrl, ...options.gatewaySettings?.[i] };
    const settings = { ...environment, ...own };
    const config = gatewaySettings.read(settings, { embedded: true });
    gateways.push(
      await begin(createGateway({ config, environment: settings, ...(await stores()), ...given, logger, liveness })),
    );
  }
  if (options.rules) {
    const stored = await api("PUT", "/v1/rules", options.rules);
    if (stored.status !== 200) throw new Error(`the rules of the test are not valid: ${stored.text}`);
    await eventually(async () =>
      (await metricsOf(gateways, "rules_version")).every((value) => value === stored.body["version"]),
    );
  }
  return {
    gateways,
    privateApi,
    urls: gateways.map((gateway) => `http://127.0.0.1:${gateway.publicDoor.port}`),
    apiUrl,
    log: () => log,
    api,
    stop: async () => {
      for (const service of begun.toReversed()) await service.stop();
    },
  };
}
