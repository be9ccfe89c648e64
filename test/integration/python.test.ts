/** Python on both sides of the loop, and its libraries as judges of what a service gets. */
import { spawnSync } from "node:child_process";
import { readFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { afterEach, expect, onTestFinished, test } from "vitest";
import { parseDocumentText } from "../../shared/documents/parse.ts";
import { eventually } from "../support/eventually.ts";
import { type Fleet, jwtSecret, serviceSecret, startFleet, tokens } from "../support/fleet.ts";
import { startService } from "../support/http-service.ts";
import { freePort, spawnProcess } from "../support/processes.ts";
import { closeClients, connectClient } from "../support/stock-client.ts";

const root = new URL("../../", import.meta.url);
const python = fileURLToPath(new URL(".venv/bin/python", root));
const example = (file: string): string => fileURLToPath(new URL(`examples/python/${file}`, root));

let fleet: Fleet;
afterEach(async () => {
  closeClients();
  await fleet.stop();
});

test("LANG-1: a stock Python client and a service of the standard library make the whole loop", async () => {
  const port = await freePort();
  const rules = (await parseDocumentText("rules", await readFile(example("rules.yaml"), "utf8"))) as {
    services: { greeter: { url: string } };
  };
  rules.services.greeter.url = `http://127.0.0.1:${port}`;
  fleet = await startFleet({ rules, environment: { GREETER_SECRET: serviceSecret } });
  const service = spawnProcess("python3", [example("service.py")], {
    env: {
      GREETER_SECRET: serviceSecret,
      PUBLISH_TOKEN: tokens.service,
      PRIVATE_API_URL: fleet.apiUrl,
      PORT: String(port),
    },
  });
  await eventually(async () =>
    fetch(rules.services.greeter.url).then(
      () => true,
      () => false,
    ),
  );
  const client = spawnProcess(python, [example("client.py")], {
    env: { AUTH_JWT_SECRET: jwtSecret, GATEWAY_URL: fleet.urls[0] },
  });
  expect(await client.exited, client.output()).toBe(0);
  for (const step of ["connected: user ada", "subscribed: lobby:greetings", "answered:", "published:", "done"]) {
    expect(client.output()).toContain(step);
  }
  service.kill("SIGKILL");
  await service.exited;
});

interface Checked {
  status: number | null;
  stdout: string;
}

function verify(request: object): Checked {
  const script = fileURLToPath(new URL("../support/verify_request.py", import.meta.url));
  return spawnSync(python, [script], { input: JSON.stringify(request), encoding: "utf8" });
}

test("EP-1: Python's Standard Webhooks library accepts a delivery to an endpoint, and refuses a changed one", async () => {
  const endpoint = await startService();
  onTestFinished(() => endpoint.stop());
  fleet = await startFleet({
    rules: { namespaces: { board: { changes: true } } },
    environment: { ENDPOINT_ALLOWED_NETWORKS: "127.0.0.0/8" },
  });
  const { body: created } = await fleet.api("POST", "/v1/endpoints", { url: endpoint.url, channels: ["board:*"] });
  await fleet.api("POST", "/v1/publish", { channel: "board:1", event: "saved", data: { text: "größer ✓" } });
  await eventually(() => endpoint.requests.length === 1);
  const { headers, body } = endpoint.requests[0] ?? { headers: {}, body: "" };
  const [secret] = created["secrets"] as string[];
  const accepted = verify({ secret, headers, body });
  expect(accepted.status).toBe(0);
  expect(JSON.parse(accepted.stdout)).toMatchObject({
    data: { type: "saved", channel: "board:1", offset: 1, data: { text: "größer ✓" } },
  });
  expect(verify({ secret, headers, body: body.replace("✓", "x") }).status).not.toBe(0);
});

test("CALL-4: Python's Standard Webhooks and JWT libraries accept a request, and refuse a changed one", async () => {
  const service = await startService();
  onTestFinished(() => service.stop());
  fleet = await startFleet({
    rules: {
      services: { documents: { url: service.url, secret: serviceSecret } },
      routes: [{ event: "doc.*", service: "documents", path: "/", mode: "call" }],
    },
  });
  const client = await connectClient(fleet.urls[0] ?? "", { tenant: "acme" });
  await client.request("doc.save", { text: "größer ✓" });
  const { headers, body } = service.requests[0] ?? { headers: {}, body: "" };
  const check = (checked: string): Checked =>
    verify({ secret: serviceSecret, audience: "documents", headers, body: checked });
  const accepted = check(body);
  expect(accepted.status).toBe(0);
  expect(JSON.parse(accepted.stdout)).toMatchObject({
    data: { text: "größer ✓" },
    claims: { sub: "ada", tenant: "acme", sid: client.welcome.sessionId },
  });
  expect(check(body.replace("✓", "x")).status).not.toBe(0);
});
