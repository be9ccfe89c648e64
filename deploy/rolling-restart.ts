/**
 * Restarts a fleet of gateways, one node after the other, without its clients noticing:
 *
 *   TIDEGATE_API_TOKEN=… npm run rolling-restart -- --api http://private-api:8081 --restart 'ssh {node} systemctl restart gateway'
 *     [--drain-seconds 120] [--ready-seconds 60] [--json]
 *
 * For each node: orders a drain, waits for the end of the drain in the node's report, runs the command with `{node}` replaced
 * by the node's name (quoted for the shell), and waits for a new process of that name to be ready. It stops at the first
 * failure with exit code 1, and says which nodes are restarted, in which state the failed one is, and which are untouched. The
 * token needs the scopes `read` and `operate`. Exit code 78: invalid argument.
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { setTimeout as wait } from "node:timers/promises";
import { readArguments, toggle } from "../shared/runtime/command-line.ts";
import { parseRetryAfter } from "../shared/protocol/retry-after.ts";
import type { DrainReport } from "../shared/nodes/contract.ts";
import { fetchFailure } from "../shared/http/fetch-failure.ts";
import { integer, text, token, url } from "../shared/runtime/setting-kinds.ts";
import type { Setting } from "../shared/runtime/settings.ts";
import { isListing, type ListedNode } from "./node-listing.ts";

const pollMs = 250;
const requestMs = 10_000;
/** Longest wait for the API to answer at all, and for a node to obey an order: it does with its next report. */
const answerSeconds = 30;
/** A node is gone once it is not listed for this long: a registry that lost its memory lists it again with its next report. */
const goneMs = 5_000;

class Failure extends Error {}
/** The API cannot answer at present: a retry may help. */
class Unavailable extends Failure {
  readonly retryAfterMs: number;
  constructor(message: string, retryAfterMs: number) {
    super(message);
    this.retryAfterMs = retryAfterMs;
  }
}

const restartCommand: Setting<string> = {
  ...text(),
  parse: (command) => {
    if (!command.includes("{node}")) throw new Error("must contain {node}, which stands for the node's name");
    return command;
  },
};
const given = readArguments({
  "--api": url({ protocols: ["http:", "https:"] }),
  "--restart": restartCommand,
  "--drain-seconds": integer({ min: 1, max: 86_400, fallback: 120 }),
  "--ready-seconds": integer({ min: 1, max: 86_400, fallback: 60 }),
  "--json": toggle(),
  TIDEGATE_API_TOKEN: token(),
});
const authorization = `Bearer ${given.TIDEGATE_API_TOKEN}`;

/** Prints progress; `--json` prints only the result. */
function say(line: string): void {
  if (!given["--json"]) process.stdout.write(`${line}\n`);
}

async function ask(method: string, path: string): Promise<unknown> {
  const signal = AbortSignal.timeout(requestMs);
  const answer = await fetch(new URL(path, given["--api"]), { method, headers: { authorization }, signal }).catch(
    (error: unknown) => {
      throw new Error(`the API at ${given["--api"]} cannot be reached: ${fetchFailure(error)}`);
    },
  );
  const body = await answer.text();
  const refusal = `${method} ${path}: ${answer.status} ${body}`;
  if (answer.status === 429 || answer.status >= 500) {
    throw new Unavailable(refusal, parseRetryAfter(answer.headers.get("retry-after") ?? "", Date.now()) ?? pollMs);
  }
  if (!answer.ok) throw new Failure(refusal);
  return JSON.parse(body) as unknown;
}

async function listNodes(): Promise<readonly ListedNode[]> {
  const listing = await ask("GET", "/v1/nodes");
  if (!isListing(listing)) throw new Failure("GET /v1/nodes: not a list of nodes");
  return listing.nodes;
}

/** Polls until `find` returns a value. While the API is unavailable it retries after the time that the API names. */
async function until<T>(what: string, withinSeconds: number, find: () => Promise<T | undefined>): Promise<T> {
  const deadline = performance.now() + withinSeconds * 1000;
  for (;;) {
    let cause = "";
    let pauseMs = pollMs;
    try {
      const found = await find();
      if (found !== undefined) return found;
    } catch (error) {
      if (error instanceof Unavailable) pauseMs = Math.max(pollMs, error.retryAfterMs);
      else if (error instanceof Failure) throw error;
      cause = `: ${(error as Error).message}`;
    }
    if (performance.now() + pauseMs > deadline) throw new Failure(`${what} not within ${withinSeconds} s${cause}`);
    await wait(pauseMs);
  }
}

async function drain({ node, instance }: ListedNode): Promise<DrainReport> {
  await until(`${node}: ordered to drain`, answerSeconds, async () =>
    ask("POST", `/v1/nodes/${encodeURIComponent(node)}/drain`),
  );
  let listedAt = performance.now();
  const find = async (): Promise<ListedNode | undefined> => {
    const found = (await listNodes()).find((listed) => listed.instance === instance);
    if (found) listedAt = performance.now();
    else if (performance.now() - listedAt > goneMs) throw new Failure(`${node} disappeared before it had drained`);
    return found;
  };
  const drainSeconds = given["--drain-seconds"];
  await until(`${node}: draining`, Math.min(answerSeconds, drainSeconds), async () =>
    (await find())?.state === "draining" ? true : undefined,
  );
  step = "draining";
  return until(`${node}: drained`, drainSeconds, async () => {
    const found = await find();
    if (!found) return undefined;
    if (found.state !== "draining") {
      step = "undrained";
      throw new Failure(`${node}: its drain was called off`);
    }
    return found.drain?.endedAt === undefined ? undefined : found.drain;
  });
}

async function runRestart(node: string): Promise<void> {
  const quoted = `'${node.replaceAll("'", String.raw`'\''`)}'`;
  const output = given["--json"] ? "ignore" : "inherit";
  const child = spawn("/bin/sh", ["-c", given["--restart"].replaceAll("{node}", () => quoted)], {
    stdio: ["ignore", output, "inherit"],
  });
  const [code] = (await once(child, "close")) as [number | null];
  if (code !== 0) throw new Failure(`${node}: the restart command ended with ${code ?? "a signal"}`);
}

/** What a failure leaves behind, by the step that failed. */
const leftBehind = {
  ordering: "may have been ordered to drain: look at GET /v1/nodes",
  draining:
    "was ordered to drain: it takes no client until it is restarted, or `npm run nodes -- undrain` calls that off",
  undrained: "is in service and was not restarted",
  restarting: "is drained: it takes no client until it is restarted, or `npm run nodes -- undrain` calls that off",
  starting: "was restarted and is not ready: look at its log",
} as const;
let step: keyof typeof leftBehind = "ordering";

async function restartNode(listed: ListedNode): Promise<DrainReport> {
  const { node, instance, connections } = listed;
  step = "ordering";
  say(`${node}: draining ${connections} connections`);
  const report = await drain(listed);
  const { sessions, moved, closed, forced, lost, left, startedAt, endedAt = startedAt } = report;
  const took = ((endedAt - startedAt) / 1000).toFixed(1);
  say(
    `${node}: drained ${sessions} sessions in ${took} s (moved ${moved}, closed ${closed}, forced ${forced}, lost ${lost}, left ${left})`,
  );
  step = "restarting";
  await runRestart(node);
  step = "starting";
  await until(`${node}: ready again`, given["--ready-seconds"], async () =>
    (await listNodes()).find((next) => next.node === node && next.instance !== instance && next.state === "ready"),
  );
  say(`${node}: ready`);
  return report;
}

const counted = ["sessions", "moved", "closed", "forced", "lost", "left"] as const;
const sums: Record<(typeof counted)[number], number> = {
  sessions: 0,
  moved: 0,
  closed: 0,
  forced: 0,
  lost: 0,
  left: 0,
};
const restarted: string[] = [];
let names: readonly string[] = [];
let failure: string | undefined;
try {
  const nodes = await until("the list of nodes", answerSeconds, listNodes);
  if (nodes.length === 0) throw new Failure("the fleet has no nodes");
  const listed = nodes.map(({ node }) => node);
  const twice = listed.find((name, at) => listed.indexOf(name) !== at);
  if (twice !== undefined) throw new Failure(`two nodes are named ${twice}`);
  names = listed;
  say(`${nodes.length} nodes: ${names.join(", ")}`);
  for (const node of nodes) {
    const report = await restartNode(node);
    for (const count of counted) sums[count] += report[count];
    restarted.push(node.node);
  }
} catch (error) {
  failure = (error as Error).message;
}
const all = counted.map((count) => `${count} ${sums[count]}`).join(", ");
say(`${restarted.length} nodes restarted; ${all}`);
const [failed, ...untouched] = names.slice(restarted.length);
const left = failure !== undefined && failed !== undefined && { failed: { node: failed, step }, untouched };
if (given["--json"]) {
  process.stdout.write(
    `${JSON.stringify({ restarted, ...sums, ...(failure !== undefined && { failure }), ...left })}\n`,
  );
}
if (failure !== undefined) {
  process.stderr.write(`${failure}\n`);
  if (left)
    process.stderr.write(`${left.failed.node} ${leftBehind[step]}\nuntouched: ${untouched.join(", ") || "none"}\n`);
  process.exitCode = 1;
}
