/**
 * Memory and time of `npm run compare` at a great number of lines.
 *
 *   npm run loadtest -- compare [--json]
 *   LINES (1000000 on each side) CHANNELS (5000)
 *
 * A server of this process stands for the private API and makes up the ledger. The reference lacks each thousandth change. Runs of a tenth of
 * the lines and of all of them show whether memory grows with their number. Exit code 0: it does not, and the counts are right.
 */
import { createWriteStream } from "node:fs";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { once } from "node:events";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { spawnProcess } from "../../test/support/processes.ts";
import type { ScenarioReport } from "../checks/scenario-report.ts";
import { parameter, runScenario, say } from "../rig/scenario.ts";

const lines = parameter("LINES", 1_000_000, 1_000, 50_000_000);
const channels = parameter("CHANNELS", 5_000, 1, 1_000_000);
const lostEvery = 1_000;
const pageLines = 1_000;
const sampleMs = 100;
/** The caches of the database, and what a program of Node takes with the heap that the npm script gives it. */
const maxMib = 200;

interface Measured {
  peakMib: number;
  seconds: number;
  cpuSeconds: number;
  extra: number;
  others: number;
}

function changeOf(n: number): { channel: string; event: string; data: object; at: number } {
  return {
    ...{ channel: `account:${n % channels}`, event: "contact.updated", at: 1_790_000_000_000 + n },
    data: { n, name: `contact ${n}`, tags: ["a", "b"], text: "x".repeat(60) },
  };
}

/** @param count lines of the ledger */
function startLedger(count: number): Server {
  const server = createServer((request, response) => {
    const from = Number(/after=(\d+)/.exec(request.url ?? "")?.[1] ?? 0);
    const to = Math.min(count, from + pageLines);
    const page = Array.from({ length: to - from }, (_, at) => {
      const n = from + at;
      const { channel, event, data, at: time } = changeOf(n);
      const offset = Math.floor(n / channels) + 1;
      return JSON.stringify({ at: time, changeId: `c${n}`, channel, epoch: "e", offset, event, key: channel, data });
    });
    if (to < count) page.push(JSON.stringify({ next: String(to) }));
    response.end(`${page.join("\n")}\n`);
  });
  server.listen(0, "127.0.0.1");
  return server;
}

async function writeReference(path: string, count: number): Promise<void> {
  const file = createWriteStream(path);
  for (let n = 0; n < count; n++) {
    if (n % lostEvery === 0) continue;
    const { at, ...change } = changeOf(n);
    if (!file.write(`${JSON.stringify({ ...change, at: at + (n % 40) })}\n`)) await once(file, "drain");
  }
  file.end();
  await once(file, "close");
}

async function measure(folder: string, count: number): Promise<Measured> {
  const reference = join(folder, `${count}.ndjson`);
  await writeReference(reference, count);
  const server = startLedger(count);
  await once(server, "listening");
  const api = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const from = performance.now();
  const args = ["--api", api, "--endpoint", "ep", "--reference", reference, "--json", "--show", "1"];
  const command = spawnProcess(process.execPath, [...(await compareScript()), ...args], {
    env: { TIDEGATE_API_TOKEN: "token" },
  });
  let [peakKib, ticks] = [0, 0];
  const sample = async (): Promise<void> => {
    const status = await readFile(`/proc/${command.child.pid}/status`, "utf8").catch(() => "");
    peakKib = Math.max(peakKib, Number(/VmHWM:\s+(\d+)/.exec(status)?.[1] ?? 0));
    const stat = await readFile(`/proc/${command.child.pid}/stat`, "utf8").catch(() => "");
    const [user = 0, system = 0] = stat.split(" ").slice(13, 15).map(Number);
    ticks = Math.max(ticks, user + system);
  };
  const timer = setInterval(() => void sample(), sampleMs);
  await command.exited;
  clearInterval(timer);
  server.close();
  server.closeAllConnections();
  const seconds = (performance.now() - from) / 1_000;
  const report = JSON.parse(command.output()) as Record<"extra" | "missing" | "reordered" | "changed", number>;
  const others = report.missing + report.reordered + report.changed;
  await rm(reference);
  return { peakMib: peakKib / 1_024, seconds, cpuSeconds: ticks / 100, extra: report.extra, others };
}

/** Its flags and its file, as in package.json. */
async function compareScript(): Promise<string[]> {
  const { scripts } = JSON.parse(await readFile("package.json", "utf8")) as { scripts: Record<string, string> };
  return (scripts["compare"] ?? "").split(" ").slice(1);
}

async function run(): Promise<ScenarioReport> {
  const folder = await mkdtemp(join(tmpdir(), "tidegate-compare-load-"));
  try {
    const counts = [Math.ceil(lines / 10), lines];
    const measured: Measured[] = [];
    for (const count of counts) {
      say(`${count} lines on each side`);
      measured.push(await measure(folder, count));
    }
    const rows = measured.map(({ peakMib, seconds, cpuSeconds, extra }, at) => [
      ...[counts[at] ?? 0, peakMib.toFixed(0), seconds.toFixed(1), cpuSeconds.toFixed(1), extra],
    ]);
    const peak = Math.max(...measured.map(({ peakMib }) => peakMib));
    const wrong = measured.filter(
      ({ extra, others }, at) => others > 0 || extra !== Math.ceil((counts[at] ?? 0) / lostEvery),
    );
    return {
      ...{ scenario: "compare", parameters: { lines, channels }, figures: {} },
      tables: [{ columns: ["lines", "peak MiB", "seconds", "CPU s", "extra"], rows }],
      verdicts: [
        { title: `memory is under ${maxMib} MiB`, pass: peak < maxMib, value: peak.toFixed(0) },
        { title: "each lost change is found, and no other difference", pass: wrong.length === 0, value: wrong.length },
      ],
    };
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

await runScenario(run);
