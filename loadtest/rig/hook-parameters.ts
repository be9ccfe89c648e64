/** Parameters of the scenarios that send webhooks over many connections, from the environment. */
import { parameter } from "./scenario.ts";

export const hookParameters = {
  connections: parameter("CONNECTIONS", 64, 1, 1_000),
  keys: parameter("KEYS", 1_000, 1, 100_000),
  bodyBytes: parameter("BODY_BYTES", 1_000, 200, 500_000),
};

/** Signs their webhooks. */
export const hookSecret = "a secret of the load test";
