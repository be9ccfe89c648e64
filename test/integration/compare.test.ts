/** The ledger of a shadow against what another system sent. */
import { mkdtemp, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { readBothSides } from "../../deploy/compare/both-sides.ts";
import { Comparison } from "../../deploy/compare/comparison.ts";
import { parseExact } from "../../deploy/compare/json-values.ts";
import { type Counts, type Difference, type DifferenceKind, Findings } from "../../deploy/compare/findings.ts";
import { EndpointApi } from "../../deploy/endpoint-api.ts";
import { CaptureFile } from "../../deploy/tee/capture-file.ts";
import { Forward } from "../../deploy/tee/forward.ts";
import { TeeReceiver } from "../../deploy/tee/receiver.ts";
import { runCommand } from "../support/commands.ts";
import { eventually } from "../support/eventually.ts";
import { type Fleet, startFleet, tokens } from "../support/fleet.ts";
import { answerJson, startService } from "../support/http-service.ts";

interface Line {
  channel?: string;
  id?: string | number;
  event?: string;
  data?: unknown;
  at?: number;
}

interface LedgerLine extends Required<Line> {
  changeId: string;
  offset: number;
}

let fleet: Fleet;
let folder: string;
let id: string;
let ledger: LedgerLine[];

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "tidegate-compare-test-"));
  fleet = await startFleet({ gateways: 0, rules: { namespaces: { board: { changes: true } } } });
  const created = await fleet.api("POST", "/v1/endpoints", {
    ...{ url: "https://customer.example", channels: ["board:*"], mode: "shadow" },
  });
  id = String(created.body["id"]);
  const items = Array.from({ length: 40 }, (_, n) => ({
    channel: `board:${n % 4}`,
    event: "card.moved",
    data: { n, big: "x", exact: 1.5 },
  }));
  await fleet.api("POST", "/v1/publish/batch", items);
  ledger = await ledgerOf();
});
afterAll(async () => {
  await fleet.stop();
  await rm(folder, { recursive: true, force: true });
});

async function ledgerOf(): Promise<LedgerLine[]> {
  const { text } = await fleet.api("GET", `/v1/endpoints/${id}/ledger`);
  return text
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line) as LedgerLine);
}

async function fileOf(lines: readonly (object | string)[]): Promise<string> {
  const path = join(folder, `${Math.random()}.ndjson`);
  await writeFile(path, lines.map((line) => `${typeof line === "string" ? line : JSON.stringify(line)}\n`).join(""));
  return path;
}

interface Report extends Counts {
  differences: Difference[];
  latencyMs: ReturnType<Findings["latencySummary"]>;
}

/** As the command does, in this process. */
async function compared(
  lines: readonly (object | string)[],
  { idPointer, to = Infinity }: { idPointer?: string; to?: number } = {},
): Promise<Report> {
  const comparison = new Comparison({ idPointer });
  try {
    await readBothSides(comparison, {
      api: new EndpointApi(fleet.apiUrl, tokens.service),
      ...{ endpoint: id, reference: await fileOf(lines), path: undefined },
      pointers: { id: idPointer, channel: undefined, event: undefined, data: undefined },
    });
    const findings = new Findings(comparison, { from: -Infinity, to });
    return { ...findings.counts, differences: [...findings.differences()], latencyMs: findings.latencySummary() };
  } finally {
    comparison.close();
  }
}

/** What the other system sent: the ledger with each kind of difference once, all in different channels or far from each other. */
function broken(lineOf: (line: LedgerLine) => Line): Line[] {
  const of = (channel: number): LedgerLine[] => ledger.filter((line) => line.channel === `board:${channel}`);
  const [lost, swapped, twice, changed] = [0, 1, 2, 3].map((channel) => of(channel).map(lineOf));
  if (!lost || !swapped || !twice || !changed) throw new Error("no ledger");
  lost.splice(4, 1);
  swapped.splice(3, 2, ...[swapped[4] ?? {}, swapped[3] ?? {}]);
  twice.splice(6, 0, twice[5] ?? {});
  changed[7] = { ...changed[7], data: { n: -1 } };
  const unheard: Line = { ...lineOf(of(0)[0] as LedgerLine), data: { n: 1_000 }, at: Date.now() };
  if (unheard.id !== undefined) unheard.id = 1_000;
  if (changed[7].id !== undefined && of(3)[7]) changed[7].id = lineOf(of(3)[7] as LedgerLine).id ?? "";
  return [...lost, ...swapped, ...twice, ...changed, unheard];
}

describe.each<[string, (line: LedgerLine) => Line, { idPointer?: string }]>([
  ["channel", ({ channel, event, data, at }) => ({ channel, event, data, at: at + 25 }), {}],
  ["webhook-id", ({ changeId, event, data, at }) => ({ id: changeId, event, data, at: at + 25 }), {}],
  ["row in the data", ({ data, at }) => ({ id: (data as { n: number }).n, data, at: at + 25 }), { idPointer: "/n" }],
])("by %s", (_form, lineOf, by) => {
  test("CUT-5: compare finds no difference where there is none, whatever the members' order", async () => {
    const lines = ledger.map((line) => {
      const { data, ...others } = lineOf(line);
      return { ...others, data: Object.fromEntries(Object.entries(data as object).toReversed()) };
    });
    const report = await compared(lines, by);
    expect(report).toMatchObject({ ledger: 40, reference: 40, same: 40, missing: 0, extra: 0, differences: [] });
    expect(report).toMatchObject({ reordered: 0, duplicated: 0, changed: 0, unknown: 0 });
    expect(report.latencyMs).toMatchObject({ count: 40, min: 25, p50: 25, max: 25 });
  });

  test("CUT-5: compare names what is missing, extra, reordered, duplicated and changed", async () => {
    const report = await compared(broken(lineOf), by);
    expect(report).toMatchObject({ missing: 1, extra: 1, reordered: 1, duplicated: 1, changed: 1 });
    const named = new Map(report.differences.map((difference) => [difference.kind, difference]));
    const offsets = { extra: ["board:0", 5], reordered: ["board:1", 4], duplicated: ["board:2", 6] } as const;
    for (const [kind, [channel, offset]] of Object.entries(offsets)) {
      expect(named.get(kind as DifferenceKind), kind).toMatchObject({ channel, offset });
    }
    expect(named.get("changed")).toMatchObject({ channel: "board:3", offset: 8, changed: ["data"] });
    expect(named.get("extra")?.before).toMatch(/^4 card\.moved/);
    expect(named.get("missing")?.line).toBe(41);
  });
});

test("CUT-5: numbers of any length are shown and compared with all their digits", () => {
  const comparison = new Comparison({ idPointer: undefined });
  try {
    const change = (offset: number, data: string): void => {
      comparison.addLedger(
        `{"at":1,"changeId":"${offset}","channel":"board:1","offset":${offset},"event":"e","data":${data}}`,
      );
    };
    change(1_234_567_890_123_456, '{"n":9007199254740993,"t":"9007199254740993"}');
    change(1_234_567_890_123_457, "9007199254740993");
    const sent = { channel: "board:1", event: "e", id: undefined, at: undefined, text: "", request: undefined };
    const value = parseExact("9007199254740992");
    comparison.addReference("file", { ...sent, line: 1, data: { value } });
    comparison.match();
    const differences = [...new Findings(comparison, { from: -Infinity, to: Infinity }).differences()];
    expect(differences).toMatchObject([
      {
        ...{ kind: "changed", offset: 1_234_567_890_123_456, reference: "9007199254740992" },
        ledger: '{"n":9007199254740993,"t":"9007199254740993"}',
      },
      { kind: "extra", offset: 1_234_567_890_123_457, ledger: "9007199254740993" },
    ]);
  } finally {
    comparison.close();
  }
});

test("CUT-5: the report for people has counts, differences in context and latencies, also as SVG", async () => {
  const reference = await fileOf(broken(({ channel, event, data, at }) => ({ channel, event, data, at: at + 25 })));
  const svg = join(folder, "latency.svg");
  const all = join(folder, "all.ndjson");
  const args = ["--api", fleet.apiUrl, "--endpoint", id, "--reference", reference, "--svg", svg, "--differences", all];
  const { code, output } = await runCommand("compare", ...args);
  expect(code, output).toBe(1);
  expect((await stat(all)).mode & 0o777).toBe(0o600);
  expect(output).toMatch(/^extra +1 {2}the ledger has it, the reference does not$/m);
  expect(output).toContain("extra: board:0, offset 5, card.moved");
  expect(output).toMatch(/20 ms to 50 ms +\d+ {2}#+/);
  expect(await readFile(svg, "utf8")).toMatch(/^<svg [^>]+>[^]*20 ms to 50 ms[^]*<\/svg>\n$/);
  expect((await readFile(all, "utf8")).trim().split("\n").length).toBe(5);
});

test("CUT-7: what the customer answered with 500 through the tee does not count as sent", async () => {
  const path = join(folder, "tee.ndjson");
  const customer = await startService();
  customer.answer = ({ body }, response) => answerJson(response, {}, body.includes('"n":13,') ? 500 : 200);
  const file = await CaptureFile.open(path, 2 ** 20);
  const forward = new Forward(new URL(customer.url), 60_000);
  const tee = new TeeReceiver({ file, forward, maxBodyBytes: 1_024, report: () => undefined });
  await tee.start(0, "127.0.0.1");
  for (const { channel, event, data } of ledger) {
    await fetch(`http://127.0.0.1:${tee.port}`, {
      method: "POST",
      body: JSON.stringify({ channel, type: event, data }),
    });
  }
  await tee.stop();
  forward.close();
  await file.close();
  await customer.stop();
  const report = await compared((await readFile(path, "utf8")).trim().split("\n"));
  expect(report).toMatchObject({ reference: 39, same: 39, extra: 1, missing: 0 });
  expect(report.differences).toMatchObject([{ kind: "extra", ledger: expect.stringContaining('"n":13}') }]);
});

test("CUT-5: only changes of the asked time count, with what the other system sent of them", async () => {
  const to = Math.max(...ledger.map(({ at }) => at)) + 1;
  await eventually(() => Date.now() > to);
  // One that is published later, and that the other system has not sent.
  await fleet.api("POST", "/v1/publish", { channel: "board:0", event: "card.moved", data: { n: 99 } });
  const lines = ledger.map(({ channel, event, data }) => ({ channel, event, data }));
  expect(await compared(lines)).toMatchObject({ extra: 1, same: 40 });
  expect(await compared(lines, { to })).toMatchObject({ extra: 0, same: 40 });
});

test("CUT-5: what the reference has of a time that the ledger no longer has is unknown, however many gaps", () => {
  const comparison = new Comparison({ idPointer: undefined });
  const gaps = 3_000;
  for (let n = gaps; n-- > 0;) comparison.addLedger(JSON.stringify({ gap: { from: n * 10, to: n * 10 + 4 } }));
  comparison.addLedger(JSON.stringify({ gap: { from: 3, to: 7 } }));
  const line = { request: undefined, channel: "board:1", event: "card.moved", data: undefined, text: "" };
  for (const [number, at] of [5, 9, 25_003, 25_005].entries()) {
    comparison.addReference("file", { ...line, line: number + 1, id: String(at), at });
  }
  comparison.match();
  const { counts, gaps: joined } = new Findings(comparison, { from: -Infinity, to: Infinity });
  comparison.close();
  expect(counts).toMatchObject({ unknown: 2, missing: 2 });
  expect(joined.slice(0, 2)).toEqual([
    { from: 0, to: 7 },
    { from: 10, to: 14 },
  ]);
  expect(joined.length).toBe(gaps);
});

test.each([
  ["is not JSON", '{"channel":'],
  ["must have channel or id", { event: "x" }],
  ["must be an object", "[]"],
  ["at: must be Unix ms", { channel: "board:1", at: "yesterday" }],
  ["has no data, and the lines before it have one", { channel: "board:1", event: "card.moved" }],
])("CUT-6: a bad line is named with its number: %s", async (finding, line) => {
  const lines = [{ channel: "board:1", event: "card.moved", data: 1 }, line, { channel: "board:1" }];
  await expect(compared(lines)).rejects.toThrow(`.ndjson:2: ${finding}`);
});

test("CUT-6: the command ends with 2 for a bad line, and with 0 and JSON where nothing differs", async () => {
  const args = ["--api", fleet.apiUrl, "--endpoint", id, "--json", "--reference"];
  const bad = await fileOf([{ channel: "board:1" }, "half"]);
  expect(await runCommand("compare", ...args, bad)).toEqual({ code: 2, output: `${bad}:2: is not JSON\n` });
  const all = await fileOf((await ledgerOf()).map(({ changeId }) => ({ id: changeId })));
  const { code, output } = await runCommand("compare", ...args, all);
  expect(JSON.parse(output)).toMatchObject({ missing: 0, extra: 0, changed: 0 });
  expect(code).toBe(0);
});

test("CUT-6: a time that does not exist ends the command with 78, and a file that cannot be written with 2", async () => {
  const reference = await fileOf([{ channel: "board:1", id: "no\u001b[2Jsuch", event: "card.moved" }]);
  const args = ["--api", fleet.apiUrl, "--endpoint", id, "--reference", reference];
  const noTime = await runCommand("compare", ...args, "--from", "2026-13-01");
  expect([noTime.code, noTime.output]).toEqual([78, expect.stringContaining("--from: no such time: 2026-13-01")]);
  const noFile = await runCommand("compare", ...args, "--differences", join(folder, "nowhere", "all.ndjson"));
  expect([noFile.code, noFile.output]).toEqual([2, expect.stringContaining("ENOENT")]);
  const { output } = await runCommand("compare", ...args);
  expect(output).toContain("id no\\u001b[2Jsuch");
});
