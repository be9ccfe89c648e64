import { describe, expect, test } from "vitest";
import { maskedGatewayConfig, readGatewayConfig } from "../../gateway/config.ts";
import { readPrivateApiConfig } from "../../private-api/config.ts";
import { SettingsError } from "../../shared/settings.ts";
import { spawnProcess } from "../support/processes.ts";

const secret = "0123456789abcdef0123456789abcdef";
const gateway = {
  PRIVATE_API_TOKEN: "token-of-the-gateway",
  AUTH_JWT_SECRET: secret,
  REDIS_URL: "redis://:hidden@redis:6379",
};

function findings(read: () => unknown): readonly string[] {
  try {
    read();
  } catch (error) {
    if (error instanceof SettingsError) return error.findings;
  }
  return [];
}

describe("settings", () => {
  test("SET-1: defaults are those of the contract", () => {
    expect(readGatewayConfig(gateway, { embedded: false })).toMatchObject({
      GATEWAY_PORT: 8080,
      GATEWAY_ADMIN_PORT: 8082,
      GATEWAY_TRANSPORTS: ["websocket"],
      PRIVATE_API_URL: ["http://127.0.0.1:8081"],
    });
    const tokens = '[{"name":"a","token":"0123456789abcdef","scopes":["publish"]}]';
    expect(readPrivateApiConfig({ PRIVATE_API_TOKENS: tokens }, { embedded: true })).toMatchObject({
      PRIVATE_API_PORT: 8081,
      PRIVATE_API_TOKENS: [{ name: "a", scopes: ["publish"] }],
    });
  });

  test("SET-2: every finding is listed, each with the variable to change", () => {
    const found = findings(() =>
      readGatewayConfig(
        {
          GATEWAY_PORT: "99999",
          GATEWAY_ADMIN_PORT: "tcp://10.0.0.1:8082",
          GATEWAY_MAX_CONNECTIONS: "many",
          TRUSTED_PROXIES: "10.0.0.0/99, loopback, foo",
          PUBLIC_URL: "https://user:word@example.com",
          GATEWAY_TRANSPORTS: "websocket,pigeon",
          PRIVATE_API_URL: "http://a:1, b",
          AUTH_JWT_SECRET: "short",
          REDIS_URL: "http://redis",
          LOG_LEVEL: "loud",
        },
        { embedded: false },
      ),
    );
    const named = found.map((finding) => finding.split(":")[0]);
    expect(named).toEqual([
      "REDIS_URL",
      "LOG_LEVEL",
      "GATEWAY_PORT",
      "GATEWAY_ADMIN_PORT",
      "GATEWAY_MAX_CONNECTIONS",
      "TRUSTED_PROXIES",
      "PUBLIC_URL",
      "GATEWAY_TRANSPORTS",
      "PRIVATE_API_URL",
      "PRIVATE_API_TOKEN",
      "AUTH_JWT_SECRET",
    ]);
    expect(found.join("\n")).toContain("enableServiceLinks");
    expect(found.find((finding) => finding.startsWith("TRUSTED_PROXIES"))).toMatch(/10\.0\.0\.0\/99.*foo/);
    expect(found.join("\n")).not.toContain("short,");
  });

  test("SET-3: settings that exclude or need each other are found, once each is valid by itself", () => {
    const missing = findings(() => readGatewayConfig({ PRIVATE_API_TOKEN: "t" }, { embedded: false }));
    expect(missing).toHaveLength(2);
    const both = { ...gateway, REDIS_CLUSTER: "a:1,b:2", REDIS_SENTINELS: "c:3" };
    expect(findings(() => readGatewayConfig(both, { embedded: false }))).toHaveLength(2);
    const onePort = { ...gateway, GATEWAY_PORT: "9000", GATEWAY_ADMIN_PORT: "9000" };
    expect(findings(() => readGatewayConfig(onePort, { embedded: true }))).toEqual([
      "GATEWAY_PORT, GATEWAY_ADMIN_PORT: must be two ports",
    ]);
  });

  test("SET-4: secrets do not show, neither in a finding nor in the log", () => {
    const [finding] = findings(() =>
      readPrivateApiConfig({ PRIVATE_API_TOKENS: '[{"token":"visible' }, { embedded: true }),
    );
    expect(finding).toContain("PRIVATE_API_TOKENS: must be JSON");
    expect(finding).not.toContain("visible");
    const shown = JSON.stringify(maskedGatewayConfig(readGatewayConfig(gateway, { embedded: false })));
    for (const hidden of [secret, "token-of-the-gateway", "hidden"]) expect(shown).not.toContain(hidden);
    expect(shown).toContain("redis://***@redis:6379");
  });

  test.for(["gateway", "private-api"])(
    "SET-5: %s does not start with a bad setting, and says which",
    async (program) => {
      const started = spawnProcess(process.execPath, [`${program}/main.ts`], {
        env: {
          LOG_LEVEL: "loud",
          REDIS_URL: "redis://x",
          PRIVATE_API_TOKENS: "[]",
          PRIVATE_API_TOKEN: "t",
          AUTH_JWT_SECRET: secret,
        },
      });
      expect(await started.exited).toBe(78);
      expect(started.output()).toContain("LOG_LEVEL: must be equal to one of the allowed values");
    },
  );
});
