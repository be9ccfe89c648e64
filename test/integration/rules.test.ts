/** Rules that change at run time. */
import { mkdtemp, rename, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, describe, expect, onTestFinished, test } from "vitest";
import { eventually } from "../support/eventually.ts";
import { metricsOf } from "../support/gateway-metrics.ts";
import { type Fleet, serviceSecret, startFleet, tokens } from "../support/fleet.ts";
import { answerJson, type HttpService, startService } from "../support/http-service.ts";
import { type RedisServer, startRedis } from "../support/redis.ts";
import { repeat } from "../support/repeat.ts";
import { closeClients, connectClient } from "../support/stock-client.ts";

let service: HttpService;
let folder: string;
beforeAll(async () => {
  service = await startService();
  service.answer = (request, response) => answerJson(response, request.path);
  folder = await mkdtemp(join(tmpdir(), "tidegate-rules-"));
});
afterEach(closeClients);
afterAll(async () => {
  await service.stop();
  await rm(folder, { recursive: true });
});

function rulesYaml(path: string): string {
  return `
services:
  echo: { url: "${service.url}", secret: env:SERVICE_SECRET }
routes:
  - { event: "where", service: echo, path: "${path}", mode: call }
`;
}

describe("through the API", () => {
  let fleet: Fleet;
  let redis: RedisServer;
  beforeAll(async () => {
    redis = await startRedis();
    fleet = await startFleet({ target: { kind: "standalone", url: redis.url }, gateways: 2 });
  });
  afterAll(async () => {
    await fleet.stop();
    await redis.stop();
  });

  test("RULE-11: a service's URL has no user or password, and no finding repeats a secret", async () => {
    for (const credentials of ["ada:hidden@", "hidden@", ":hidden@"]) {
      const url = `http://${credentials}service.internal`;
      const refused = await fleet.api("PUT", "/v1/rules", { services: { echo: { url, secret: serviceSecret } } });
      expect([refused.status, refused.body]).toMatchObject([
        400,
        {
          errors: [
            "services.echo.url: must have no user or password: the service authenticates requests by its secret",
          ],
        },
      ]);
      expect(JSON.stringify(refused.body)).not.toContain("hidden");
    }
    const yaml = {
      text: "services:\n  echo: { secret: hidden\n  url: b",
      headers: { "content-type": "application/yaml" },
    };
    const refused = await fleet.api("PUT", "/v1/rules", undefined, yaml);
    expect(refused.body["errors"]).toEqual(expect.arrayContaining([expect.stringMatching(/line 3, column \d+$/)]));
    expect(refused.text).not.toContain("hidden");
  });

  test("RULE-2: a document gets a version, reaches every node, and is shown without its secrets", async () => {
    const rules = {
      services: {
        echo: { url: service.url, secret: serviceSecret },
        other: { url: service.url, secret: "env:SERVICE_SECRET" },
      },
      routes: [{ event: "where", service: "echo", path: "/a", mode: "call" }],
    };
    const stored = await fleet.api("PUT", "/v1/rules", rules);
    expect([stored.status, stored.body]).toEqual([200, { version: 1 }]);
    await eventually(async () => (await metricsOf(fleet.gateways, "rules_version")).every((value) => value === 1));
    const shown = await fleet.api("GET", "/v1/rules", undefined, { token: tokens.reader });
    expect(shown.headers.get("etag")).toBe('"1"');
    expect(shown.body).toEqual({
      version: 1,
      ...rules,
      services: { echo: { url: service.url, secret: "***" }, other: rules.services.other },
    });
    const maskBack = await fleet.api("PUT", "/v1/rules", shown.body);
    expect([maskBack.status, maskBack.body["code"]]).toEqual([400, "invalid_request"]);
    for (const url of fleet.urls) {
      const client = await connectClient(url);
      expect((await client.request("where")).data).toBe("/a");
    }
  });

  test("RULE-3: If-Match prevents overwriting a concurrent change", async () => {
    const put = async (headers: Record<string, string>) =>
      fleet.api("PUT", "/v1/rules", { namespaces: { x: {} } }, { headers });
    const refused = await put({ "if-match": '"7"' });
    expect([refused.status, refused.body["code"]]).toEqual([412, "precondition_failed"]);
    expect((await put({ "if-match": "seven" })).body["code"]).toBe("invalid_request");
    expect((await put({ "if-match": '"1"' })).body).toEqual({ version: 2 });
    expect((await put({})).body).toEqual({ version: 2 });
  });

  test("RULE-4: YAML is accepted as well", async () => {
    const answer = await fleet.api("PUT", "/v1/rules", undefined, {
      text: rulesYaml("/yaml"),
      headers: { "content-type": "application/yaml" },
    });
    expect(answer.body).toEqual({ version: 3 });
    await eventually(async () => (await metricsOf(fleet.gateways, "rules_version")).every((value) => value === 3));
  });

  test("RULE-5: an invalid document is refused with every finding, and the old rules stay in force", async () => {
    const bad = {
      namespaces: { Board: {}, board: { access: "all", historySize: -1, presence: true } },
      services: {
        one: { url: "ftp://x", secret: "short" },
        two: { url: "http://x" },
        three: { url: "http://x", secret: "env:NOT_SET" },
      },
      sqlSources: {
        crm: {
          ...{ driver: "mysql", table: "log", channel: "account:{account}", event: "{kind}", data: "d", xid: "x" },
          url: Array.from({ length: 2_001 }, (_, n) => `env:CRM_${n}`),
        },
      },
      routes: [{ event: "a", service: "nobody", path: "no-slash", mode: "later" }],
      hooks: { subscribe: "missing" },
      extra: 1,
    };
    const form = await fleet.api("PUT", "/v1/rules", bad);
    expect(form.body["code"]).toBe("invalid_request");
    const findings = (form.body["errors"] as string[]).join("\n");
    for (const part of [
      "extra",
      "Board",
      "access",
      "historySize",
      "services.one.url",
      "services.one.secret",
      "path",
      "mode",
      "hooks.subscribe",
      'routes.0.service: no such service: "nobody"',
      "services.two: give either secret or secrets",
      'services.three: environment variable of "env:NOT_SET" is not set',
      "sqlSources.crm.xid: only with driver: postgres",
      "sqlSources: have 2001 shards, more than 2000",
    ]) {
      expect(findings).toContain(part);
    }
    const meaning = await fleet.api("PUT", "/v1/rules", {
      namespaces: { board: { presence: true, slow: "latest" } },
      services: { two: { url: "http://x" } },
      routes: [
        { event: "a", service: "nobody", path: "/", mode: "enqueue", class: "none" },
        { event: "a", service: "two", path: "/", mode: "call", shadow: "two" },
      ],
      hooks: { connect: "nobody", connected: "two" },
      sources: {
        github: { verify: "github", route: "none", class: "none", journal: true, hmac: { header: "x" } },
      },
    });
    expect(meaning.body["errors"]).toHaveLength(10);
    const secret = await fleet.api("PUT", "/v1/rules", {
      services: { three: { url: "http://x", secret: "env:NOT_SET" } },
    });
    expect(secret.body["errors"]).toEqual([expect.stringContaining("NOT_SET")]);
    expect((await fleet.api("GET", "/v1/rules")).body["version"]).toBe(3);
    expect(await metricsOf(fleet.gateways, "rules_version")).toEqual([3, 3]);
  });

  const putYaml = async (text: string) =>
    fleet.api("PUT", "/v1/rules", undefined, { text, headers: { "content-type": "application/yaml" } });

  test("RULE-10: YAML that takes too long to parse is refused without delaying other requests", async () => {
    let refused: unknown;
    const putting = putYaml("? ".repeat(40_000)).then((answer) => (refused = answer));
    let answered = 0;
    for (; refused === undefined; answered++) expect((await fleet.api("GET", "/v1/rules")).status).toBe(200);
    expect(answered).toBeGreaterThan(5);
    expect(await putting).toMatchObject({ status: 400, body: { errors: ["takes too much time or memory to parse"] } });
  });

  test.for<[string, string, string]>([
    ["a key that is given twice", "hooks: {}\nhooks: {}", 'the key "hooks" is given twice at line 2, column 1'],
    ["a key that is given twice in flow style", "{ hooks: {}, hooks: {} }", 'the key "hooks" is given twice at line 1'],
    ["aliases that stand for too much", `a: &a ["${"x".repeat(50_000)}"]\nb: [${"*a, ".repeat(60)}]`, "too much"],
    ["more than 512 KiB", "#".repeat(513 * 1024), "payload_too_large"],
    ["too many routes", `{ "routes": [${"{},".repeat(10_000)}{}] }`, "routes: has 10001 entries, more than 10000"],
    ["an alias of nothing", "a: *b", "Unresolved alias"],
    ["a scalar", "5", "must be object"],
    ["nothing", "", "must be object"],
  ])("RULE-10: %s is refused with the reason", async ([, text, reason]) => {
    const answer = await putYaml(text);
    expect(answer.status).toBeGreaterThanOrEqual(400);
    expect(answer.text.replaceAll('\\"', '"')).toContain(reason);
  });

  test("RULE-5: of thousands of findings the first hundred are listed, with the number of the rest", async () => {
    const routes = Array.from({ length: 5_000 }, (_, i) => ({ event: `e${i}`, service: "s", path: "/", mode: "call" }));
    const { body } = await fleet.api("PUT", "/v1/rules", { routes });
    const findings = body["errors"] as string[];
    expect(findings).toHaveLength(101);
    expect(findings[0]).toBe('routes.0.service: no such service: "s" (add it under services)');
    expect(findings.at(-1)).toBe("… and 4900 more");
    const broken = await fleet.api("PUT", "/v1/rules", { routes: routes.map(() => ({ path: 5 })) });
    expect((broken.body["errors"] as string[]).length).toBeLessThanOrEqual(101);
    const long = await fleet.api("PUT", "/v1/rules", { ["x".repeat(10_000)]: 1 });
    expect(long.text.length).toBeLessThan(1_000);
  });

  test("RULE-6: putting rules needs the scope rules", async () => {
    const answer = await fleet.api("PUT", "/v1/rules", {}, { token: tokens.reader });
    expect(answer.body["code"]).toBe("missing_scope");
  });
});

describe("from a file", () => {
  test("RULE-7: an edit of the file comes into force under constant calls; an invalid one is ignored", async () => {
    const file = join(folder, "rules.yaml");
    await writeFile(file, rulesYaml("/first"));
    const redis = await startRedis();
    onTestFinished(() => redis.stop());
    const fleet = await startFleet({
      target: { kind: "standalone", url: redis.url },
      gateways: 2,
      environment: { RULES_FILE: file, GATEWAY_MESSAGES_PER_SECOND: "100000" },
    });
    onTestFinished(() => fleet.stop());
    await eventually(async () => (await metricsOf(fleet.gateways, "rules_version")).every((value) => value === 1));
    const clients = await Promise.all(fleet.urls.map((url) => connectClient(url)));
    const answers: unknown[] = [];
    const callers = clients.flatMap((client) =>
      Array.from({ length: 8 }, () => repeat(async () => answers.push(await client.request("where")))),
    );
    const answered = async (path: string): Promise<void> => {
      const from = answers.length;
      await eventually(() => answers.slice(from).some((answer) => (answer as { data: unknown }).data === path));
    };
    await answered("/first");

    await writeFile(file, rulesYaml("/second"));
    await answered("/second");

    await writeFile(file, `${rulesYaml("/third")}  - { event: "x", service: nobody, path: "/", mode: call }\nextra: 1`);
    // Not the log: a file that was read half written is invalid, too.
    await eventually(async () => {
      const ready = await fetch(`${fleet.apiUrl}/readyz`);
      const { status, checks } = (await ready.json()) as { status: string; checks: Record<string, string> };
      return status === "degraded" && checks["rules"] === "degraded";
    });
    expect(fleet.log()).toContain("the rules file is not valid");
    const until = answers.length + 200;
    await eventually(() => answers.length >= until);

    await writeFile(`${file}.new`, rulesYaml("/fourth"));
    await rename(`${file}.new`, file);
    await answered("/fourth");
    await Promise.all(callers.map(async (caller) => caller.stop()));

    expect(answers.filter((answer) => !(answer as { ok: boolean }).ok)).toEqual([]);
    const order = answers.map((answer) => (answer as { data: string }).data);
    expect(new Set(order)).toEqual(new Set(["/first", "/second", "/fourth"]));
    const put = await fleet.api("PUT", "/v1/rules", {});
    expect([put.status, put.body["code"]]).toEqual([409, "conflict"]);
  });

  test("RULE-8: a missing or invalid file makes the start fail", async () => {
    const file = join(folder, "bad.yaml");
    await writeFile(file, "routes: 5\nservices: [");
    await expect(startFleet({ environment: { RULES_FILE: file } })).rejects.toThrow(/rules are not valid/);
    await expect(startFleet({ environment: { RULES_FILE: join(folder, "none.yaml") } })).rejects.toThrow(/ENOENT/);
    for (const [text, finding] of [
      ["", "is empty"],
      ["# routes: []\n", "is empty"],
      ["routes", "must be an object"],
      ["[]", "must be an object"],
      ["services: {}\n---\nroutes: []\n", "a second document begins at line 2: give one"],
    ] as const) {
      await writeFile(file, text);
      await expect(startFleet({ environment: { RULES_FILE: file } })).rejects.toThrow(finding);
    }
  });
});
