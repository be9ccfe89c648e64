import { once } from "node:events";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import type { AddressInfo } from "node:net";
import { describe, expect, test } from "vitest";
import { gatewaySettings } from "../../gateway/config.ts";
import { privateApiSettings } from "../../private-api/config.ts";
import { SettingsError } from "../../shared/runtime/settings.ts";
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
  test("SET-1: defaults match the specification", () => {
    expect(gatewaySettings.read(gateway, { embedded: false })).toMatchObject({
      GATEWAY_PORT: 8080,
      GATEWAY_ADMIN_PORT: 8082,
      GATEWAY_TRANSPORTS: ["websocket"],
      REDIS_PREFIX: "tidegate",
      PRIVATE_API_URL: ["http://127.0.0.1:8081"],
    });
    const tokens = '[{"name":"a","token":"0123456789abcdef","scopes":["publish"]}]';
    expect(privateApiSettings.read({ PRIVATE_API_TOKENS: tokens }, { embedded: true })).toMatchObject({
      PRIVATE_API_PORT: 8081,
      PRIVATE_API_TOKENS: [{ name: "a", scopes: ["publish"] }],
    });
  });

  test("SET-2: every finding is listed, each with the variable to change", () => {
    const found = findings(() =>
      gatewaySettings.read(
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
          REDIS_PREFIX: "a{b}",
          LOG_LEVEL: "loud",
        },
        { embedded: false },
      ),
    );
    const named = found.map((finding) => finding.split(":")[0]);
    expect(named).toEqual([
      "REDIS_URL",
      "REDIS_PREFIX",
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

  test("SET-3: conflicting and incomplete combinations of settings are found", () => {
    const missing = findings(() => gatewaySettings.read({ PRIVATE_API_TOKEN: "t" }, { embedded: false }));
    expect(missing).toHaveLength(2);
    const both = { ...gateway, REDIS_CLUSTER: "a:1,b:2", REDIS_SENTINELS: "c:3" };
    expect(findings(() => gatewaySettings.read(both, { embedded: false }))).toHaveLength(2);
    const onePort = { ...gateway, GATEWAY_PORT: "9000", GATEWAY_ADMIN_PORT: "9000" };
    expect(findings(() => gatewaySettings.read(onePort, { embedded: true }))).toEqual([
      "GATEWAY_PORT, GATEWAY_ADMIN_PORT: must differ",
    ]);
    const read = (REDIS_URL: string, REDIS_READ_URL: string) => () =>
      gatewaySettings.read({ ...gateway, REDIS_URL, REDIS_READ_URL }, { embedded: false });
    expect(findings(read("redis://a/1", "redis://b"))).toEqual([
      "REDIS_READ_URL: must name the database of the deployment",
    ]);
    expect(read("redis://a/1", "redis://b/1")).not.toThrow();
    expect(read("redis://a", "redis://b/")).not.toThrow();
  });

  test("SET-2: DISPATCH_CLASSES has the name of a class at least, and nothing but such names", () => {
    const read = (DISPATCH_CLASSES: string) => () =>
      privateApiSettings.read({ PRIVATE_API_TOKENS: "[]", DISPATCH_CLASSES }, { embedded: true });
    for (const bad of [",", "messages,a b", "-stats"]) {
      expect(findings(read(bad))).toEqual([expect.stringMatching(/^DISPATCH_CLASSES: /)]);
    }
    expect(read("messages, stats")().DISPATCH_CLASSES).toEqual(["messages", "stats"]);
  });

  test("SET-4: neither findings nor the log contain secrets", () => {
    const [finding] = findings(() =>
      privateApiSettings.read({ PRIVATE_API_TOKENS: '[{"token":"visible' }, { embedded: true }),
    );
    expect(finding).toContain("PRIVATE_API_TOKENS: must be JSON");
    expect(finding).not.toContain("visible");
    const shown = JSON.stringify(gatewaySettings.masked(gatewaySettings.read(gateway, { embedded: false })));
    for (const hidden of [secret, "token-of-the-gateway", "hidden"]) expect(shown).not.toContain(hidden);
    expect(shown).toContain("redis://***@redis:6379");
  });

  test.for(["gateway", "private-api"])(
    "SET-5: %s does not start with a wrong setting, and names it",
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

  describe("SET-6: a variable that is not a setting is logged with the nearest name", () => {
    test.for([
      ["GATEWAY_MAX_CONECTIONS", "GATEWAY_MAX_CONNECTIONS"],
      ["GATEWAY_MAX_CONN", "GATEWAY_MAX_CONNECTIONS"],
      ["gateway_port", "GATEWAY_PORT"],
      ["AUTH_JWT_SECRETS", "AUTH_JWT_SECRET"],
      ["PRIVATE_API_TOKN", "PRIVATE_API_TOKEN"],
      ["TRUSTED_PROXY", "TRUSTED_PROXIES"],
      ["LOG_LEVL", "LOG_LEVEL"],
    ] as const)("%s: %s", ([name, nearest]) => {
      expect(gatewaySettings.unknown({ [name]: "value" })).toEqual([`${name} (did you mean ${nearest}?)`]);
    });

    test("a name with our prefix that resembles no setting is logged without its value", () => {
      expect(gatewaySettings.unknown({ REDIS_PASSWORD: "hidden", GATEWAY_FOO: "1" })).toEqual([
        "GATEWAY_FOO",
        "REDIS_PASSWORD",
      ]);
    });

    test("other variables and settings of the other program are not logged", () => {
      const others = { PATH: "/bin", LOG_FORMAT: "json", PUBLIC_DIRECTORY: "/www", GATEWAY_NODE: "" };
      expect(gatewaySettings.unknown({ ...others, PRIVATE_API_TOKENS: "[]", PRIVATE_API_PORT: "1" })).toEqual([]);
      expect(privateApiSettings.unknown({ ...others, ...gateway, GATEWAY_PORT: "1", RULES_FILE: "r.yaml" })).toEqual(
        [],
      );
    });

    test("an error about a missing setting lists them too", () => {
      const read = (): unknown => privateApiSettings.read({ PRIVATE_API_TOKNS: "[]" }, { embedded: true });
      expect(read).toThrow("PRIVATE_API_TOKNS (did you mean PRIVATE_API_TOKENS?)");
    });

    test.for(["gateway", "private-api"])("%s logs it at the start", async (program) => {
      const started = spawnProcess(process.execPath, [`${program}/main.ts`], {
        env: {
          ...gateway,
          REDIS_URL: "redis://127.0.0.1:1",
          PRIVATE_API_TOKENS: "[]",
          PRIVATE_API_STOP_SECOND: "9",
          GATEWAY_PORT: "0",
          GATEWAY_ADMIN_PORT: "0",
          PRIVATE_API_PORT: "0",
        },
      });
      const line = await started.printed("unknown settings: ");
      expect(JSON.parse(line)).toMatchObject({
        level: 40,
        msg: "unknown settings: PRIVATE_API_STOP_SECOND (did you mean PRIVATE_API_STOP_SECONDS?)",
      });
      started.kill("SIGKILL");
      await started.exited;
    });
  });

  describe("SET-9: a program does not start with a part of a URL that it would ignore", () => {
    test.for([
      ["PRIVATE_API_URL", "http://a:1, http://gateway:hidden@b:2", "user and password"],
      ["PRIVATE_API_URL", "http://api:8081/tidegate", "path"],
      ["PRIVATE_API_URL", "http://api:8081/?key=hidden", "query"],
      ["PUBLIC_URL", "https://live.example/rt", "path"],
      ["PUBLIC_URL", "https://user:hidden@live.example/a?key=hidden#b", "user and password, path, query, fragment"],
      ["AUTH_JWKS_URL", "https://user:hidden@id.example/keys", "user and password"],
    ] as const)("%s: %s", ([name, value, excess]) => {
      const found = findings(() => gatewaySettings.read({ ...gateway, [name]: value }, { embedded: false }));
      expect(found).toEqual([expect.stringContaining(`${name}: must have no ${excess}`)]);
      expect(found.join()).not.toContain("hidden");
    });

    test.for(["PRIVATE_API_URL", "PUBLIC_URL", "AUTH_JWKS_URL", "REDIS_URL"])("%s with a line break", (name) => {
      const value = name === "REDIS_URL" ? "redis://redis:6379/\n1" : "https://a.exa\nmple";
      const found = findings(() => gatewaySettings.read({ ...gateway, [name]: value }, { embedded: false }));
      expect(found).toEqual([expect.stringMatching(/^\w+: .*line break/)]);
    });

    test("a final slash, and path and query of the JWKS, are accepted", () => {
      const given = {
        PRIVATE_API_URL: "http://a:1/",
        PUBLIC_URL: "https://b/",
        AUTH_JWKS_URL: "https://c/keys?key=hidden",
      };
      const config = gatewaySettings.read({ ...gateway, ...given }, { embedded: false });
      expect(config).toMatchObject({ ...given, PRIVATE_API_URL: ["http://a:1/"] });
      expect(gatewaySettings.masked(config)).toMatchObject({ AUTH_JWKS_URL: "https://c/keys?***" });
    });
  });

  test("SET-10: a program does not start with a token that no HTTP header can carry", () => {
    for (const token of ["with space", "hidden-token-of-16\n", "hidden-tökén-of-16"]) {
      const found = [
        ...findings(() => gatewaySettings.read({ ...gateway, PRIVATE_API_TOKEN: token }, { embedded: false })),
        ...findings(() => {
          const tokens = [{ name: "a", token: token.padEnd(20, "x"), scopes: ["read"] }];
          return privateApiSettings.read({ PRIVATE_API_TOKENS: JSON.stringify(tokens) }, { embedded: true });
        }),
      ];
      expect(found).toEqual([
        "PRIVATE_API_TOKEN: must be visible ASCII without spaces or a line break at its end",
        "PRIVATE_API_TOKENS: item 1.token: must be visible ASCII without spaces or a line break at its end",
      ]);
    }
    const named = findings(() =>
      gatewaySettings.read({ ...gateway, AUTH_ISSUER: "https://id\n" }, { embedded: false }),
    );
    expect(named).toEqual([expect.stringMatching(/^AUTH_ISSUER: must have no control characters/)]);
    const secrets = { ...gateway, AUTH_JWT_SECRET: `${secret}\n` };
    expect(gatewaySettings.read(secrets, { embedded: false }).AUTH_JWT_SECRET).toEqual([`${secret}\n`]);
  });

  test("SET-7: service links of Kubernetes are recognised", () => {
    const links = {
      GATEWAY_SERVICE_HOST: "10.0.0.1",
      GATEWAY_SERVICE_PORT: "8080",
      GATEWAY_SERVICE_PORT_HTTP: "8080",
      GATEWAY_PUBLIC_PORT: "tcp://10.0.0.1:8080",
      REDIS_PORT: "tcp://10.0.0.2:6379",
      REDIS_PORT_6379_TCP: "tcp://10.0.0.2:6379",
      REDIS_PORT_6379_TCP_PROTO: "tcp",
      REDIS_PORT_6379_TCP_PORT: "6379",
      REDIS_PORT_6379_TCP_ADDR: "10.0.0.2",
      PRIVATE_API_PORT_8081_TCP_ADDR: "10.0.0.3",
    };
    expect(gatewaySettings.unknown(links)).toEqual([]);
    expect(privateApiSettings.unknown(links)).toEqual([]);
    const found = findings(() =>
      gatewaySettings.read({ ...gateway, ...links, GATEWAY_PORT: "tcp://10.0.0.1:8080" }, { embedded: false }),
    );
    expect(found).toEqual([
      'GATEWAY_PORT: must be a whole number, not "tcp://10.0.0.1:8080" (Kubernetes sets it for the service "gateway": ' +
        "set enableServiceLinks: false in the pod's spec, or set GATEWAY_PORT there)",
    ]);
  });

  describe("SET-8: a failed start prints one line, with the setting to change", () => {
    async function startDemo(env: Record<string, string>): Promise<string> {
      const started = spawnProcess(process.execPath, ["examples/board/start.ts"], {
        env: { GATEWAY_PORT: "0", GATEWAY_ADMIN_PORT: "0", PRIVATE_API_PORT: "0", BOARD_PORT: "0", ...env },
      });
      expect(await started.exited).toBe(1);
      return started.output();
    }

    test.for(["GATEWAY_PORT", "GATEWAY_ADMIN_PORT", "PRIVATE_API_PORT", "BOARD_PORT"])("%s is in use", async (name) => {
      const taken = createServer().listen(0, "127.0.0.1");
      await once(taken, "listening");
      const { port } = taken.address() as AddressInfo;
      try {
        const lines = (await startDemo({ [name]: String(port) })).trimEnd().split("\n");
        // On machines with few open files a warning precedes it.
        expect(lines.pop()?.slice("hh:mm:ss ".length)).toBe(
          `FATAL port ${port} is in use: stop the program that listens on it, or set ${name}`,
        );
        for (const line of lines) expect(line).toMatch(/^\d\d:\d\d:\d\d WARN /);
      } finally {
        taken.close();
      }
    });

    test("the host is not an address of this machine", async () => {
      const output = await startDemo({ GATEWAY_HOST: "192.0.2.1" });
      expect(output).toContain("this machine has no address 192.0.2.1: change GATEWAY_HOST\n");
      expect(output).not.toContain(" at ");
    });

    test("the rules file does not exist", async () => {
      const output = await startDemo({ RULES_FILE: "/nowhere/rules.yaml" });
      expect(output).toContain("FATAL RULES_FILE: the file cannot be read: ENOENT");
      expect(output).not.toContain(" at ");
    });

    test("the rules file is a folder", async () => {
      const output = await startDemo({ RULES_FILE: tmpdir() });
      expect(output).toContain("FATAL RULES_FILE: the file cannot be read: EISDIR");
      expect(output).not.toContain(" at ");
    });

    test("the journal's folder is a file", async () => {
      const output = await startDemo({ JOURNAL_DIR: process.execPath });
      expect(output).toContain("FATAL JOURNAL_DIR: the folder cannot be used: ENOTDIR");
      expect(output).not.toContain(" at ");
    });
  });
});
