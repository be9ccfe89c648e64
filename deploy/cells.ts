/**
 * Shows the cells of a deployment, and moves slots between them:
 *
 *   TIDEGATE_API_TOKEN=… npm run cells -- <command> --api http://private-api:8081 [--json]
 *
 *   list                                   cells, their slots, and moves
 *   take CELL --slots 0-63 [--wait]        moves these slots to the cell
 *   take CELL --count 64 [--wait]          moves so many, of the cells that have the most
 *   drain CELL [--wait]                    moves all of its slots to the other cells
 *   abort CELL [--wait]                    undoes moves to and from the cell that have not switched
 *   pin CELL --tenant acme                 keeps new queues of the tenant in the cell
 *   unpin CELL --tenant acme               keeps new queues of the tenant in the cells of their slots again
 *
 * `--wait` shows progress until no slot of the cell moves any more. The token needs the scope `read`, and `operate` for all but
 * list. Exit code 1: refused, or the API cannot be reached; 78: invalid argument.
 */
import { setTimeout as wait } from "node:timers/promises";
import { readArguments, refuseArguments, toggle } from "../shared/runtime/command-line.ts";
import { fetchFailure } from "../shared/http/fetch-failure.ts";
import { integer, optional, text, token, url } from "../shared/runtime/setting-kinds.ts";

const pollMs = 500;
const requestMs = 10_000;
/** Longest time without an answer while waiting. */
const silentMs = 30_000;

interface Listing {
  version: number;
  cells: { cell: string; state: string; slots: string; count: number }[];
  moves: { slots: string; count: number; from: string; to: string; step: string; error?: string }[];
  pins: { tenant: string; cell?: string; state: string }[];
}

class Failure extends Error {}

const words = process.argv.slice(2).findIndex((word) => word.startsWith("-"));
const [command = "", cell] = process.argv.splice(2, words === -1 ? process.argv.length : words);
const given = readArguments({
  "--api": url({ protocols: ["http:", "https:"] }),
  "--slots": optional(text()),
  "--count": optional(integer({ min: 1, max: 256 })),
  "--tenant": optional(text()),
  "--wait": toggle(),
  "--json": toggle(),
  TIDEGATE_API_TOKEN: token(),
});

if (!["list", "take", "drain", "abort", "pin", "unpin"].includes(command))
  refuseArguments("name a command: list, take, drain, abort, pin or unpin");
if (command !== "list" && cell === undefined) refuseArguments(`name the cell: ${command} CELL`);
const ofTenant = command === "pin" || command === "unpin";
if (ofTenant !== (given["--tenant"] !== undefined))
  refuseArguments("--tenant: give it with pin and unpin, and only there");
if (ofTenant && given["--wait"]) refuseArguments("--wait: is for take, drain and abort");

async function ask<Answer>(method: string, path: string, body?: object): Promise<Answer> {
  let answer: Response;
  try {
    answer = await fetch(new URL(path, given["--api"]), {
      method,
      headers: {
        authorization: `Bearer ${given.TIDEGATE_API_TOKEN}`,
        ...(body && { "content-type": "application/json" }),
      },
      ...(body && { body: JSON.stringify(body) }),
      signal: AbortSignal.timeout(requestMs),
    });
  } catch (error) {
    throw new Failure(`the API at ${given["--api"]} cannot be reached: ${fetchFailure(error)}`);
  }
  const content = (await answer.json().catch(() => ({}))) as Answer & { detail?: string; title?: string };
  if (!answer.ok) throw new Failure(`${answer.status}: ${content.detail ?? content.title ?? "no answer of the API"}`);
  return content;
}

/** Prints progress and what people read; `--json` prints only the result. */
function say(line: string): void {
  if (!given["--json"]) process.stdout.write(`${line}\n`);
}

function showPins(pins: Listing["pins"]): void {
  for (const { tenant, cell, state } of pins) {
    say(
      `  tenant ${tenant}  ${cell === undefined ? "unpinned" : `pinned to ${cell}`}${state === "moving" ? ", earlier queues are elsewhere" : ""}`,
    );
  }
}

function show({ version, cells, moves, pins }: Listing): void {
  say(`map version ${version}`);
  for (const { cell, state, count, slots } of cells)
    say(`  ${cell.padEnd(12)} ${state.padEnd(9)} ${String(count).padStart(3)} slots  ${slots}`);
  for (const { from, to, slots, step, error } of moves) {
    say(`  ${from} → ${to}  ${slots}  ${step}${error === undefined ? "" : `  (again after: ${error})`}`);
  }
  showPins(pins);
}

async function untilDone(): Promise<Listing> {
  let answeredAt = performance.now();
  let shown = "";
  for (;;) {
    try {
      const listing = await ask<Listing>("GET", "/v1/cells");
      answeredAt = performance.now();
      const moves = listing.moves.filter(({ from, to }) => from === cell || to === cell);
      if (moves.length === 0) return listing;
      const left = moves.reduce((sum, { count }) => sum + count, 0);
      const [first] = moves;
      const line = `${left} slots left; ${first?.slots}: ${first?.step}${first?.error === undefined ? "" : ` (again after: ${first.error})`}`;
      if (line !== shown) say(line);
      shown = line;
    } catch (error) {
      if (performance.now() - answeredAt > silentMs) throw error;
    }
    await wait(pollMs);
  }
}

async function run(): Promise<void> {
  const { "--slots": slots, "--count": count } = given;
  const path = `/v1/cells/${encodeURIComponent(cell ?? "")}/${command}`;
  let result: object;
  if (command === "list") {
    const listing = await ask<Listing>("GET", "/v1/cells");
    show(listing);
    result = listing;
  } else if (ofTenant) {
    const answer = await ask<Pick<Listing, "version" | "pins">>("POST", path, { tenant: given["--tenant"] });
    say(`map version ${answer.version}`);
    showPins(answer.pins);
    result = answer;
  } else {
    const body =
      command === "take" ? { ...(slots !== undefined && { slots }), ...(count !== undefined && { count }) } : undefined;
    const answer = await ask<{ slots: string }>("POST", path, body);
    say(answer.slots === "" ? "nothing to do" : `${command}: slots ${answer.slots}`);
    result = answer;
    if (given["--wait"]) {
      const listing = await untilDone();
      show(listing);
      result = listing;
    }
  }
  if (given["--json"]) process.stdout.write(`${JSON.stringify(result)}\n`);
}

try {
  await run();
} catch (error) {
  if (!(error instanceof Failure)) throw error;
  process.stderr.write(`${error.message}\n`);
  process.exitCode = 1;
}
