/** The tee: what another system sends, captured on its way to the customer. */
import { mkdtemp, readFile, rm, truncate, writeFile } from "node:fs/promises";
import { request } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, onTestFinished, test } from "vitest";
import { eventually } from "../support/eventually.ts";
import { type HttpService, startService } from "../support/http-service.ts";
import { type Spawned, spawnProcess } from "../support/processes.ts";

interface Captured {
  request: number;
  path?: string;
  query?: string;
  body?: string;
  bodyBase64?: string;
  headers?: string[];
  status?: number;
}

let folder: string;
let customer: HttpService;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "tidegate-tee-"));
  customer = await startService();
});
afterAll(async () => {
  await customer.stop();
  await rm(folder, { recursive: true, force: true });
});

async function startTee(file: string, ...args: string[]): Promise<{ tee: Spawned; url: string }> {
  const tee = spawnProcess(process.execPath, ["deploy/tee.ts", "--file", file, "--port", "0", ...args]);
  onTestFinished(async () => {
    tee.kill("SIGKILL");
    await tee.exited;
  });
  const line = await tee.printed("tee listening on ");
  return { tee, url: line.slice(line.indexOf("http")) };
}

async function linesOf(file: string): Promise<Captured[]> {
  const text = await readFile(file, "utf8");
  return text
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => JSON.parse(line) as Captured);
}

test("CUT-7: the tee captures a request, sends the same bytes on, and answers with the customer's answer", async () => {
  const file = join(folder, "forward.ndjson");
  const { url } = await startTee(file, "--forward", `${customer.url}/hooks`);
  const body = Buffer.from([0x7b, 0x22, 0xff, 0xfe, 0x22, 0x3a, 0x31, 0x7d]);
  customer.answer = (_request, response) => {
    response.writeHead(418, { "x-teapot": "yes", "content-type": "text/plain" });
    response.end("short and stout");
  };
  const sent = await fetch(`${url}/a?b=1`, {
    ...{ method: "PUT", body, headers: { "X-Own": "1", authorization: "Bearer secret", "x-api-key": "secret" } },
  });
  expect([sent.status, sent.headers.get("x-teapot"), await sent.text()]).toEqual([418, "yes", "short and stout"]);
  const [got] = customer.requests.slice(-1);
  expect(got?.bytes).toEqual(body);
  expect(got?.path).toBe("/hooks/a?b=1");
  expect(got?.headers).toMatchObject({
    "x-own": "1",
    authorization: "Bearer secret",
    "x-api-key": "secret",
    host: new URL(customer.url).host,
  });
  await eventually(async () => (await linesOf(file)).length === 2);
  const [captured, outcome] = await linesOf(file);
  expect(captured).toMatchObject({ path: "/a", query: "?b=1", bodyBase64: body.toString("base64") });
  expect(captured?.headers?.join(" ")).toContain("X-Own 1");
  expect(captured?.headers?.join(" ")).not.toContain("secret");
  expect(outcome).toMatchObject({ request: captured?.request, status: 418 });
});

test("CUT-7: lines are in the order of the requests, and a body that is too long is refused", async () => {
  const file = join(folder, "order.ndjson");
  const { url } = await startTee(file, "--max-body", "64");
  for (let n = 0; n < 20; n++) expect((await fetch(url, { method: "POST", body: `{"n":${n}}` })).status).toBe(200);
  expect((await fetch(url, { method: "POST", body: "x".repeat(65) })).status).toBe(413);
  const chunked = await new Promise<number | undefined>((resolve, reject) => {
    const sending = request(url, { method: "POST" }, ({ statusCode }) => resolve(statusCode));
    sending.once("error", reject);
    sending.write("y".repeat(60));
    sending.end("y".repeat(60));
  });
  expect(chunked).toBe(413);
  const bodies = (await linesOf(file)).map(({ body }) => body);
  expect(bodies).toEqual(Array.from({ length: 20 }, (_, n) => `{"n":${n}}`));
});

test("CUT-7: what the tee cannot capture is answered 503 and not sent on", async () => {
  const file = join(folder, "full.ndjson");
  const { url, tee } = await startTee(file, "--forward", customer.url, "--max-bytes", "10");
  const before = customer.requests.length;
  const refused = await fetch(url, { method: "POST", body: "{}" });
  expect([refused.status, customer.requests.length]).toEqual([503, before]);
  await tee.printed("is full");
  expect(await linesOf(file)).toEqual([]);
});

test("CUT-7: a tee that is killed has captured whatever it answered or sent on, and leaves no half line", async () => {
  const file = join(folder, "killed.ndjson");
  customer.answer = (_request, response) => response.end("{}");
  const first = await startTee(file, "--forward", customer.url);
  let n = 0;
  const from = customer.requests.length;
  const senders = Array.from({ length: 8 }, async () => {
    for (;;) {
      const number = n++;
      const sent = await fetch(first.url, { method: "POST", body: JSON.stringify({ number }) }).catch(() => undefined);
      if (sent?.status !== 200) return;
    }
  });
  await eventually(() => customer.requests.length > from + 40);
  first.tee.kill("SIGKILL");
  await Promise.all(senders);
  const arrived = customer.requests.slice(from).map(({ body }) => body);
  const before = await linesOf(file);
  const captured = new Set(before.map(({ body }) => body));
  expect(arrived.filter((body) => !captured.has(body))).toEqual([]);
  // As a crash leaves it where the system had written a part of the last line.
  const whole = await readFile(file);
  const lastLine = whole.lastIndexOf("\n", -2) + 1;
  await truncate(file, lastLine + 7);
  const second = await startTee(file);
  await second.tee.printed("cut off");
  expect((await fetch(second.url, { method: "POST", body: "again" })).status).toBe(200);
  const after = await linesOf(file);
  expect(after.length).toBe(before.length);
  expect(after.at(-1)?.body).toBe("again");
  expect(after.at(-1)?.request).toBeGreaterThan(before.at(-2)?.request ?? Infinity);
});

test("CUT-7: a tee notices that another process writes its file", async () => {
  const file = join(folder, "shared.ndjson");
  const { url } = await startTee(file);
  expect((await fetch(url, { method: "POST", body: "1" })).status).toBe(200);
  await writeFile(file, "other\n", { flag: "a" });
  expect((await fetch(url, { method: "POST", body: "2" })).status).toBe(503);
});
