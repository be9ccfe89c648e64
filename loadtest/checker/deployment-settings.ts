/** How checkers reach a deployment: flags, and the environment variable of each. */
import { text, token, url, urls } from "../../shared/runtime/setting-kinds.ts";

export const deploymentSettings = {
  "--gateway": urls({ protocols: ["http:", "https:", "ws:", "wss:"] }),
  "--api": url({ protocols: ["http:", "https:"], allows: ["path"] }),
  "--api-token": token(),
  "--jwt-secret": text({ secret: true, minLength: 32 }),
};

export const deploymentVariables = {
  "--gateway": "GATEWAY_URLS",
  "--api": "PRIVATE_API_URL",
  "--api-token": "PRIVATE_API_TOKEN",
  "--jwt-secret": "AUTH_JWT_SECRET",
};
