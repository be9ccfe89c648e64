/**
 * Shows the gateways of a fleet and what they hold, and drains one of them:
 *
 *   TIDEGATE_API_TOKEN=… npm run nodes -- <command> --api http://private-api:8081 [--json]
 *
 *   list                  nodes, their state, connections and drains
 *   sessions NODE         sessions of the node
 *   channels              channels with followers, and how many
 *   users                 connected users, and their sessions
 *   drain NODE            moves its sessions to other nodes; the node refuses new ones until it is restarted, or
 *   undrain NODE          calls that off: sessions that have not moved stay, and the node takes others again
 *
 * With `--json` each line is JSON. The token needs the scope `read`, and `operate` for drain and undrain. Exit code 1: refused, or
 * the API cannot be reached; 78: invalid argument.
 */
import { readArguments, refuseArguments, toggle } from "../shared/runtime/command-line.ts";
import { excerpt } from "../shared/runtime/excerpt.ts";
import { fetchFailure } from "../shared/http/fetch-failure.ts";
import { token, url } from "../shared/runtime/setting-kinds.ts";
import { isListing } from "./node-listing.ts";

const requestMs = 10_000;
const pageSize = 200;
const commands = ["list", "sessions", "channels", "users", "drain", "undrain"] as const;

class Failure extends Error {}

const words = process.argv.slice(2).findIndex((word) => word.startsWith("-"));
const [name, node] = process.argv.splice(2, words === -1 ? process.argv.length : words);
const given = readArguments({
  "--api": url({ protocols: ["http:", "https:"] }),
  "--json": toggle(),
  TIDEGATE_API_TOKEN: token(),
});
const command = commands.find((each) => each === name) ?? refuseArguments(`name a command: ${commands.join(", ")}`);
const ofNode = command === "sessions" || command === "drain" || command === "undrain";
if (ofNode !== (node !== undefined)) refuseArguments("NODE: name one with sessions, drain and undrain, and only there");
const nodePath = `/v1/nodes/${encodeURIComponent(node ?? "")}`;

/** A user chooses its name: no terminal is to obey it. */
function print(item: object, line: string): void {
  process.stdout.write(`${given["--json"] ? JSON.stringify(item) : excerpt(line, Infinity)}\n`);
}

async function ask(method: string, path: string): Promise<unknown> {
  const away = (error: unknown): never => {
    throw new Failure(`the API at ${given["--api"]} cannot be reached: ${fetchFailure(error)}`);
  };
  const answer = await fetch(new URL(path, given["--api"]), {
    method,
    headers: { authorization: `Bearer ${given.TIDEGATE_API_TOKEN}` },
    signal: AbortSignal.timeout(requestMs),
  }).catch(away);
  const text = await answer.text().catch(away);
  if (!answer.ok) throw new Failure(`${method} ${path}: ${answer.status} ${text}`);
  try {
    return JSON.parse(text) as unknown;
  } catch {
    throw new Failure(`${method} ${path}: not JSON: ${excerpt(text)}`);
  }
}

async function list(): Promise<void> {
  const listing = await ask("GET", "/v1/nodes");
  if (!isListing(listing)) throw new Failure("GET /v1/nodes: not a list of nodes");
  for (const listed of listing.nodes) {
    const { node, state, connections, drain } = listed;
    const progress = drain && `  ${drain.endedAt === undefined ? "draining" : "drained"} ${drain.sessions} sessions`;
    print(listed, `${node.padEnd(24)} ${state.padEnd(9)} ${connections} connections${progress ?? ""}`);
  }
}

/** All pages. @param toLine of an item. */
async function listAll(path: string, toLine: (item: Record<string, string | number>) => string): Promise<void> {
  const missing = new Set<string>();
  let after = "";
  do {
    const page = (await ask("GET", `${path}?limit=${pageSize}${after}`)) as {
      items: Record<string, string | number>[];
      next?: string;
      missing?: string[];
    };
    for (const item of page.items) print(item, toLine(item));
    for (const silent of page.missing ?? []) missing.add(silent);
    after = page.next === undefined ? "" : `&after=${encodeURIComponent(page.next)}`;
  } while (after !== "");
  if (missing.size > 0) process.stderr.write(`not listed, as these nodes do not answer: ${[...missing].join(", ")}\n`);
}

async function order(): Promise<void> {
  await ask("POST", `${nodePath}/${command}`);
  print({ node, ordered: command }, `${node}: ${command} ordered, it begins with the node's next report`);
}

const ofTenant = (tenant?: string | number): string => (tenant === undefined ? "" : ` of ${tenant}`);
const run: Record<(typeof commands)[number], () => Promise<void>> = {
  list,
  drain: order,
  undrain: order,
  sessions: async () =>
    listAll(
      `${nodePath}/sessions`,
      ({ sessionId, user, tenant, connectedAt, channels }) =>
        `${sessionId}  ${user}${ofTenant(tenant)}  since ${new Date(Number(connectedAt)).toISOString()}  ${channels} channels`,
    ),
  channels: async () =>
    listAll("/v1/channels", ({ channel, sessions, nodes }) => `${channel}  ${sessions} sessions on ${nodes} nodes`),
  users: async () =>
    listAll("/v1/users", ({ user, tenant, sessions }) => `${user}${ofTenant(tenant)}  ${sessions} sessions`),
};

try {
  await run[command]();
} catch (error) {
  if (!(error instanceof Failure)) throw error;
  process.stderr.write(`${error.message}\n`);
  process.exitCode = 1;
}
