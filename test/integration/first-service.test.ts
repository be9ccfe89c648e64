/** The script of docs/first-service.md in its shorter form, its service in TypeScript, and the guide against the files that it shows. */
import { spawnSync } from "node:child_process";
import { createSecretKey } from "node:crypto";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { type AddressInfo, createServer } from "node:net";
import { resolve } from "node:path";
import { afterEach, expect, onTestFinished, test } from "vitest";
import { preparePython } from "../../examples/first-service/deployment.ts";
import { parseDocumentText } from "../../shared/documents/parse.ts";
import { signWebhook } from "../../shared/services/standard-webhooks.ts";
import { eventually } from "../support/eventually.ts";
import { serviceSecret, startFleet, tokens } from "../support/fleet.ts";
import { spawnPrivateApi } from "../support/private-api-process.ts";
import { freePort, spawnProcess } from "../support/processes.ts";
import { startRedis } from "../support/redis.ts";
import { samplesOf } from "../support/samples.ts";
import { closeClients, connectClient } from "../support/stock-client.ts";

const folder = "examples/first-service";

afterEach(closeClients);

test("WEEK-1: no acknowledged note is lost while service, gateway and private API are killed", async () => {
  const args = [`${folder}/story.ts`, "--short", "--json", "--clients", "3", "--venv", ".venv"];
  const story = spawnProcess(process.execPath, args);
  expect(await story.exited, story.output()).toBe(0);
  const result = JSON.parse(story.output()) as { acknowledged: number; happened: object[] };
  expect(result).toMatchObject({ lost: 0, doubled: 0, resyncs: 0, unseen: [] });
  expect(result.happened).toHaveLength(5);
  expect(result.acknowledged).toBeGreaterThanOrEqual(150);
});

test("WEEK-1: the service in TypeScript publishes, answers, and refuses what is not signed", async () => {
  const port = await freePort();
  const url = `http://127.0.0.1:${port}`;
  const rules = (await parseDocumentText("rules", readFileSync(`${folder}/rules.yaml`, "utf8"))) as {
    services: { notes: { url: string } };
  };
  rules.services.notes.url = url;
  const fleet = await startFleet({ rules, environment: { NOTES_SECRET: serviceSecret } });
  onTestFinished(() => fleet.stop());
  const otherSecret = `whsec_${Buffer.from("the secret that it had before, too").toString("base64")}`;
  const service = spawnProcess(process.execPath, [`${folder}/service.ts`], {
    env: {
      ...{ NOTES_SECRET: `${otherSecret},${serviceSecret}`, PUBLISH_TOKEN: tokens.service },
      ...{ PRIVATE_API_URL: fleet.apiUrl, PORT: String(port) },
    },
  });
  onTestFinished(() => service.kill("SIGKILL"));
  await eventually(async () => (await fetch(url).catch(() => undefined)) !== undefined);
  const unsigned = await fetch(`${url}/events/note.add`, { method: "POST", body: "{}" });
  expect(unsigned.status).toBe(401);
  const client = await connectClient(fleet.urls[0] ?? "", { channels: ["notes:*"] });
  await client.subscribe("notes:1");
  const note = { author: "ada", text: "Hello" };
  expect(await client.request("note.add", note)).toMatchObject({ ok: true, data: { offset: 1 } });
  expect((await client.next(({ event }) => event === "note.added")).data).toEqual(note);
  for (const mistaken of [{}, null, undefined, "Hello", []]) {
    const refused = { code: "bad_note", message: "a note has a text", status: 400 };
    expect(await client.request("note.add", mistaken)).toMatchObject({ ok: false, error: refused });
  }
});

test("WEEK-1: the service in Python answers 503 where the private API is killed during a publish, and 400 for a mistake", async () => {
  const privateApi = createServer((socket) => socket.once("data", () => socket.destroy()));
  privateApi.listen(0, "127.0.0.1");
  onTestFinished(() => void privateApi.close());
  await once(privateApi, "listening");
  const port = String(await freePort());
  const url = `http://127.0.0.1:${port}`;
  const args = ["-m", "uvicorn", "service:app", "--port", port, "--log-level", "warning"];
  const service = spawnProcess(resolve(preparePython(".venv")), args, {
    cwd: folder,
    env: {
      ...{ NOTES_SECRET: serviceSecret, PUBLISH_TOKEN: tokens.service },
      PRIVATE_API_URL: `http://127.0.0.1:${(privateApi.address() as AddressInfo).port}`,
    },
  });
  onTestFinished(() => service.kill("SIGKILL"));
  await eventually(async () => (await fetch(url).catch(() => undefined)) !== undefined);
  const webhookKey = createSecretKey(serviceSecret.slice("whsec_".length), "base64");
  const add = async (note: unknown): Promise<Response> => {
    const body = JSON.stringify(note);
    const headers = { "ce-id": "1", ...signWebhook("1", body, [{ webhookKey }], new Date()) };
    return fetch(`${url}/events/note.add`, { method: "POST", body, headers });
  };
  const answer = await add({ text: "Hello" });
  expect([answer.status, answer.headers.get("retry-after")]).toEqual([503, "1"]);
  for (const mistaken of [{}, null, "Hello", []]) {
    const refused = await add(mistaken);
    expect([refused.status, await refused.json()]).toEqual([400, { code: "bad_note", message: "a note has a text" }]);
  }
});

test("WEEK-2: the guide shows lines of the service, in both languages, and the rules that the script runs", () => {
  const files: Readonly<Record<string, string>> = {
    ...{ python: "service.py", typescript: "service.ts", yaml: "rules.yaml" },
  };
  const shown = samplesOf("docs/first-service.md").filter(({ language }) => language in files);
  expect(shown.map(({ language }) => language)).toEqual(["python", "typescript", "python", "typescript", "yaml"]);
  for (const { language, code } of shown) {
    expect(readFileSync(`${folder}/${files[language]}`, "utf8")).toContain(code);
  }
});

test("WEEK-2: the guide's tokens are enough for its commands, which need no other Node than that of npm ci", async () => {
  const shell = samplesOf("docs/first-service.md").flatMap(({ language, code }) => (language === "sh" ? [code] : []));
  expect(shell.filter((code) => /^node /m.test(code))).toEqual([]);
  const secrets = shell.find((code) => code.includes("export PRIVATE_API_TOKENS")) ?? "";
  const variables = ["NOTES_SECRET", "PRIVATE_API_TOKENS", "TIDEGATE_API_TOKEN"];
  const printed = spawnSync("bash", ["-c", `${secrets}\nprintenv -0 ${variables.join(" ")}`], { encoding: "utf8" });
  const values = printed.stdout.split("\0");
  const env = Object.fromEntries(variables.map((name, index) => [name, values[index] ?? ""]));
  const redis = await startRedis();
  onTestFinished(() => redis.stop());
  const privateApi = await spawnPrivateApi({ ...env, REDIS_URL: redis.url, RULES_FILE: `${folder}/rules.yaml` });
  onTestFinished(() => privateApi.process.kill("SIGKILL"));
  const looks = (shell.at(-1) ?? "").replaceAll("http://127.0.0.1:8081", privateApi.url);
  const looked = spawnProcess("bash", ["-euc", looks], { env });
  expect(await looked.exited, looked.output()).toBe(0);
  expect(looked.output()).toContain('"service":"notes"');
});
