/**
 * Shows the endpoints that webhooks are sent to, and what becomes of their deliveries:
 *
 *   TIDEGATE_API_TOKEN=… npm run endpoints -- list --api http://private-api:8081 [--json]
 *   … show --id ID                    one endpoint with its last attempts
 *   … tail --id ID [--seconds 60]     its attempts as they happen
 *   … replay --id ID --from start | end | time:MS | CHANNEL@OFFSET | CURSOR
 *
 * With `--json` each line is JSON. `replay` moves the endpoint in the change log: it gets everything from there on again, under the
 * same ids; CHANNEL@OFFSET names the change before the first one. The token needs the scope `endpoints`. Exit code 1: the API
 * refused; 78: invalid argument.
 */
import { setTimeout as wait } from "node:timers/promises";
import { readArguments, refuseArguments, toggle } from "../shared/runtime/command-line.ts";
import { integer, optional, text, token, url } from "../shared/runtime/setting-kinds.ts";

const commands = ["list", "show", "tail", "replay"] as const;
const requestMs = 30_000;
const tailEveryMs = 500;
const pageSize = 200;

interface Endpoint {
  id: string;
  url: string;
  state: string;
  lag: { changes: number; ms: number };
  lastError?: { at: number; status?: number; message: string };
}

interface Attempt {
  at: number;
  changeId: string;
  attempt: number;
  status?: number;
  ms: number;
  error?: string;
  answer?: string;
}

const [name = ""] = process.argv.splice(2, 1);
const command = commands.find((each) => each === name);
const isHelp = name === "--help";
if (isHelp) process.argv.push(name);
else if (!command) refuseArguments(`the first argument must be one of ${commands.join(", ")}`);
const given = readArguments({
  "--api": url({ protocols: ["http:", "https:"] }),
  "--id": optional(text()),
  "--from": optional(text()),
  "--seconds": integer({ min: 1, max: 86_400, fallback: 60 }),
  "--json": toggle(),
  TIDEGATE_API_TOKEN: token(),
});

function print(item: object, line: string): void {
  process.stdout.write(`${given["--json"] ? JSON.stringify(item) : line}\n`);
}

async function ask<Answer>(method: string, path: string, body?: object): Promise<Answer> {
  const answer = await fetch(new URL(path, given["--api"]), {
    method,
    headers: {
      authorization: `Bearer ${given.TIDEGATE_API_TOKEN}`,
      ...(body && { "content-type": "application/json" }),
    },
    ...(body && { body: JSON.stringify(body) }),
    signal: AbortSignal.timeout(requestMs),
  });
  const answered = await answer.text();
  if (!answer.ok) throw new Error(`${method} ${path}: ${answer.status} ${answered}`);
  return JSON.parse(answered) as Answer;
}

function pathOf(action = ""): string {
  const id = given["--id"];
  if (id === undefined) refuseArguments("--id: name an endpoint");
  return `/v1/endpoints/${encodeURIComponent(id)}${action}`;
}

function printEndpoint(endpoint: Endpoint): void {
  const { id, state, lag, lastError } = endpoint;
  const failed = lastError ? `  last error ${new Date(lastError.at).toISOString()}: ${lastError.message}` : "";
  print(endpoint, `${id}  ${state.padEnd(8)}  ${lag.changes} waiting, ${lag.ms} ms  ${endpoint.url}${failed}`);
}

function printAttempt(attempt: Attempt): void {
  const { at, changeId, attempt: number, status = "-", ms, error = "" } = attempt;
  print(attempt, `${new Date(at).toISOString()}  ${changeId}  attempt ${number}  ${status}  ${ms} ms  ${error}`);
}

async function list(): Promise<void> {
  let after = "";
  do {
    const page = await ask<{ items: Endpoint[]; next?: string }>(
      "GET",
      `/v1/endpoints?limit=${pageSize}${after === "" ? "" : `&after=${after}`}`,
    );
    page.items.forEach(printEndpoint);
    after = page.next ?? "";
  } while (after !== "");
}

/** Oldest first. */
async function attempts(): Promise<Attempt[]> {
  return (await ask<{ items: Attempt[] }>("GET", pathOf("/attempts"))).items.toReversed();
}

async function show(): Promise<void> {
  printEndpoint(await ask<Endpoint>("GET", pathOf()));
  (await attempts()).forEach(printAttempt);
}

async function tail(): Promise<void> {
  const deadline = performance.now() + given["--seconds"] * 1_000;
  const keyOf = ({ at, changeId, attempt }: Attempt): string => `${at} ${changeId} ${attempt}`;
  let known = new Set((await attempts()).map(keyOf));
  while (performance.now() < deadline) {
    await wait(tailEveryMs);
    const latest = await attempts();
    latest.filter((attempt) => !known.has(keyOf(attempt))).forEach(printAttempt);
    known = new Set(latest.map(keyOf));
  }
}

async function replay(): Promise<void> {
  printEndpoint(await ask<Endpoint>("POST", pathOf("/seek"), { to: targetOf(given["--from"]) }));
}

function targetOf(from: string | undefined): unknown {
  if (from === undefined) return refuseArguments("--from: say where the endpoint continues");
  const [, time] = /^time:(\d+)$/.exec(from) ?? [];
  if (time !== undefined) return { time: Number(time) };
  const [, channel, offset] = /^(.+:.+)@(\d+)$/.exec(from) ?? [];
  return channel === undefined ? from : { channel, offset: Number(offset) };
}

try {
  await { list, show, tail, replay }[command ?? "list"]();
} catch (error) {
  process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`);
  process.exit(1);
}
