/**
 * Shows the endpoints that webhooks are sent to, what becomes of their deliveries, and moves them from and to another system:
 *
 *   TIDEGATE_API_TOKEN=… npm run endpoints -- list --api http://private-api:8081 [--state shadow] [--percent 10] [--json]
 *   … show --id ID                    one endpoint with its last attempts
 *   … tail --id ID [--seconds 60]     its attempts as they happen
 *   … replay --id ID --from start | end | time:MS | CHANNEL@OFFSET | CURSOR
 *   … ledger --id ID [--sent-seconds 600]
 *   … go-live --id ID --after CURSOR
 *   … go-live --id ID --reference FILE.ndjson [--id-at /pointer …] [--nothing-sent] [--ignore-missing]
 *   … go-live --percent 10 --reference FOLDER/{id}.ndjson [--id-at /pointer …] [--nothing-sent] [--ignore-missing]
 *   … shadow --id ID | --percent 10
 *
 * With `--json` each line is JSON. `replay` moves the endpoint in the change log: it gets everything from there on again, under the
 * same ids; CHANNEL@OFFSET names the change before the first one. `ledger` lists what a shadow would be sent, or with --sent-seconds what
 * it was sent of the last seconds before the time that `shadow` prints.
 *
 * `go-live` makes a shadow live: after the cursor that `shadow` printed, or after the last change that another system sent, by a reference
 * as `compare` takes it, with the same --id-at, --channel-at, --event-at, --data-at and --path. Stop that system for the endpoint first. Each
 * line needs an id. A reference without any change of the ledger is refused, unless --nothing-sent says that this is right: all of it is sent. So is one with
 * changes that the ledger does not have yet, unless --ignore-missing says that they are never published.
 * With --percent: the shadows among the first so many percent of all endpoints; {id} stands for the id of each. `shadow` stops an endpoint, and
 * prints the position up to which it was sent everything; with --percent: the live ones beyond the first so many percent.
 *
 * --api is http://127.0.0.1:8081 without it. The token needs the scope `endpoints`. Exit code 1: the API refused, for one endpoint at least; 78: invalid argument.
 */
import { setTimeout as wait } from "node:timers/promises";
import { readArguments, refuseArguments, toggle } from "../shared/runtime/command-line.ts";
import { excerpt } from "../shared/runtime/excerpt.ts";
import { integer, matching, optional, text, token, url } from "../shared/runtime/setting-kinds.ts";
import { type Endpoint, EndpointApi, endpointPath, localApi } from "./endpoint-api.ts";
import { ledgerPages } from "./compare/ledger-pages.ts";
import { pointerFlags, pointersOf } from "./compare/pointer-flags.ts";
import { goLiveAfter, goLiveAfterReference, liveBeyond, shadowsWithin, toShadow } from "./endpoints/cut-over.ts";

const tailEveryMs = 500;

interface Attempt {
  at: number;
  changeId: string;
  attempt: number;
  status?: number;
  ms: number;
  error?: string;
  answer?: string;
}

const goLiveOptions = [
  ...["--id", "--percent", "--after", "--reference", "--path", "--nothing-sent", "--ignore-missing"],
  ...Object.keys(pointerFlags),
];
/** Each with the options that it takes, besides those of all. */
const commands = {
  list: { run: list, options: ["--state", "--percent"] },
  show: { run: show, options: ["--id"] },
  tail: { run: tail, options: ["--id", "--seconds"] },
  replay: { run: replay, options: ["--id", "--from"] },
  ledger: { run: ledger, options: ["--id", "--sent-seconds"] },
  "go-live": { run: goLive, options: goLiveOptions },
  shadow: { run: shadow, options: ["--id", "--percent"] },
};
/** Of each group one at most: they name different endpoints, or different positions. */
const alternatives = [
  ["--id", "--percent"],
  ["--after", "--reference"],
  ["--after", "--percent"],
];

const [name = ""] = process.argv.splice(2, 1);
const command = Object.keys(commands).find((each) => each === name) as keyof typeof commands | undefined;
const isHelp = name === "--help";
if (isHelp) process.argv.push(name);
else if (!command) refuseArguments(`the first argument must be one of ${Object.keys(commands).join(", ")}`);
const given = readArguments({
  "--api": url({ protocols: ["http:", "https:"], fallback: localApi }),
  "--id": optional(text()),
  "--from": optional(text()),
  "--seconds": integer({ min: 1, max: 86_400, fallback: 60 }),
  "--state": optional(text()),
  "--percent": optional(matching(/^(100|\d{1,2}(\.\d{1,2})?)$/, "must be a percentage, such as 12.5")),
  "--sent-seconds": optional(integer({ min: 1, max: 86_400 })),
  "--after": optional(text()),
  "--reference": optional(text()),
  ...pointerFlags,
  "--path": optional(text()),
  "--nothing-sent": toggle(),
  "--ignore-missing": toggle(),
  "--json": toggle(),
  TIDEGATE_API_TOKEN: token(),
});
refuseOthers();
const api = new EndpointApi(given["--api"], given.TIDEGATE_API_TOKEN);
const percent = given["--percent"] === undefined ? undefined : Number(given["--percent"]);

/** An option that the command does not take, or two that contradict each other: the command would act on other endpoints than are meant. */
function refuseOthers(): void {
  const options = process.argv.flatMap((argument) => /^--[a-z-]+/.exec(argument) ?? []);
  const taken = new Set(["--api", "--json", ...commands[command ?? "list"].options]);
  const other = options.find((option) => !taken.has(option));
  if (other !== undefined) refuseArguments(`${other}: ${name} does not take it`);
  const repeated = options.find((option, at) => options.indexOf(option) !== at);
  if (repeated !== undefined) refuseArguments(`${repeated}: give it once`);
  for (const group of alternatives) {
    if (group.every((option) => options.includes(option))) refuseArguments(`${group.join(", ")}: give one of them`);
  }
}

/** A receiver chooses what errors say: no terminal is to obey it. */
function print(item: object, line: string): void {
  process.stdout.write(`${given["--json"] ? JSON.stringify(item) : excerpt(line, Infinity)}\n`);
}

function givenId(): string {
  return given["--id"] ?? refuseArguments("--id: name an endpoint");
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
  (await api.list({ state: given["--state"], percent })).forEach(printEndpoint);
}

/** Oldest first. */
async function attempts(): Promise<Attempt[]> {
  const answer = await api.ask<{ items: Attempt[] }>("GET", endpointPath(givenId(), "/attempts"));
  return answer.items.toReversed();
}

async function show(): Promise<void> {
  printEndpoint(await api.ask<Endpoint>("GET", endpointPath(givenId())));
  (await attempts()).forEach(printAttempt);
}

async function tail(): Promise<void> {
  const deadline = performance.now() + given["--seconds"] * 1_000;
  const keyOf = ({ at, changeId, attempt }: Attempt): string => `${at} ${changeId} ${attempt}`;
  let known = new Set((await attempts()).map(keyOf));
  while (performance.now() < deadline) {
    await wait(tailEveryMs);
    const latest = await attempts();
    const added = latest.filter((attempt) => !known.has(keyOf(attempt)));
    // The log keeps the last ones only.
    if (known.size > 0 && added.length > 0 && added.length === latest.length) {
      report(`more than ${latest.length} attempts within ${tailEveryMs} ms: some are not shown`);
    }
    added.forEach(printAttempt);
    known = new Set(latest.map(keyOf));
  }
}

async function replay(): Promise<void> {
  const to = targetOf(given["--from"]);
  printEndpoint(await api.ask<Endpoint>("POST", endpointPath(givenId(), "/seek"), { to }));
}

function targetOf(from: string | undefined): unknown {
  if (from === undefined) return refuseArguments("--from: say where the endpoint continues");
  const [, time] = /^time:(\d+)$/.exec(from) ?? [];
  if (time !== undefined) return { time: Number(time) };
  const [, channel, offset] = /^(.+:.+)@(\d+)$/.exec(from) ?? [];
  if (channel !== undefined) return { channel, offset: Number(offset) };
  // No cursor has one.
  if (/[:@]/.test(from)) refuseArguments("--from: time: needs Unix ms, and CHANNEL@ an offset, both as digits");
  return from;
}

async function ledger(): Promise<void> {
  for await (const page of ledgerPages(api, givenId(), given["--sent-seconds"])) {
    for (const line of page) process.stdout.write(`${line}\n`);
  }
}

/** Of these endpoints in turn; one that is refused keeps no other back. */
async function each(endpoints: readonly Endpoint[], act: (id: string) => Promise<void>): Promise<void> {
  for (const { id } of endpoints) {
    try {
      await act(id);
    } catch (error) {
      report(`${id}: ${error instanceof Error ? error.message : String(error)}`);
      process.exitCode = 1;
    }
  }
}

async function goLive(): Promise<void> {
  const [after, file, path] = [given["--after"], given["--reference"], given["--path"]];
  if (after !== undefined) return printEndpoint(await goLiveAfter(api, givenId(), after));
  if (file === undefined) refuseArguments("--reference: name what the other system sent, or the position with --after");
  const pointers = pointersOf(given);
  const goLiveOne = async (id: string): Promise<void> =>
    printEndpoint(
      await goLiveAfterReference(api, id, {
        ...{ file: file.replaceAll("{id}", id), path: path?.replaceAll("{id}", id), pointers },
        mayBeEmpty: given["--nothing-sent"],
        mayBeMissing: given["--ignore-missing"],
      }),
    );
  return percent === undefined ? goLiveOne(givenId()) : each(await shadowsWithin(api, percent), goLiveOne);
}

async function shadow(): Promise<void> {
  const stop = async (id: string): Promise<void> => {
    const stopped = await toShadow(api, id);
    const until = new Date(stopped.sentUntil).toISOString();
    print(
      stopped,
      `${id}  ${stopped.state}  all that was published before ${until} was sent, and all up to ${stopped.after}`,
    );
  };
  return percent === undefined ? stop(givenId()) : each(await liveBeyond(api, percent), stop);
}

function report(message: string): void {
  process.stderr.write(`${message}\n`);
}

try {
  await commands[command ?? "list"].run();
} catch (error) {
  report(error instanceof Error ? error.message : String(error));
  process.exit(1);
}
