/**
 * Holds the ledger of an endpoint against what another system sent:
 *
 *   TIDEGATE_API_TOKEN=… npm run compare -- --endpoint ID --reference FILE.ndjson [--api http://private-api:8081] [--json]
 *
 * A line of the reference is { channel | id, event?, data?, at? }, or a request that the tee captured. Lines with an id are the changes
 * with that webhook-id, or, with --id-at /pointer, those whose data has it there. Other lines are compared in the order of their channel.
 * Into the bodies of captured requests: --channel-at, --event-at and --data-at, JSON pointers; /channel, /type and /data without them. --path:
 * only requests to that path. --from, --to: only changes published from then on, or before then; Unix ms, or a time of ISO 8601 with
 * its time zone.
 *
 * --show N: so many differences are printed (20). --differences FILE: all of them, as NDJSON, readable for you only. --svg FILE: the latencies as a picture.
 * --api is http://127.0.0.1:8081 without it. The token needs the scope `endpoints`. Exit code 1: there are differences; 2: a line of the reference is bad, or the ledger cannot be
 * read; 78: invalid argument.
 */
import { createWriteStream } from "node:fs";
import { writeFile } from "node:fs/promises";
import { pipeline } from "node:stream/promises";
import { readArguments, refuseArguments, toggle } from "../shared/runtime/command-line.ts";
import { excerpt } from "../shared/runtime/excerpt.ts";
import { integer, matching, optional, text, token, url } from "../shared/runtime/setting-kinds.ts";
import { Comparison } from "./compare/comparison.ts";
import { type Difference, Findings } from "./compare/findings.ts";
import { bucketsOf, histogramSvg } from "./compare/latency-histogram.ts";
import { pointerFlags, pointersOf } from "./compare/pointer-flags.ts";
import { readBothSides } from "./compare/both-sides.ts";
import { reportText } from "./compare/report.ts";
import { timeForm, timeOf } from "./compare/times.ts";
import { EndpointApi, localApi } from "./endpoint-api.ts";

const time = (): ReturnType<typeof matching> => matching(/^(\d{1,16}|\d{4}-\d\d-\d\d.*)$/, `must be ${timeForm}`);
const given = readArguments({
  "--api": url({ protocols: ["http:", "https:"], fallback: localApi }),
  "--endpoint": text(),
  "--reference": text(),
  ...pointerFlags,
  "--path": optional(text()),
  "--from": optional(time()),
  "--to": optional(time()),
  "--show": integer({ min: 0, max: 100_000, fallback: 20 }),
  "--differences": optional(text()),
  "--svg": optional(text()),
  "--json": toggle(),
  TIDEGATE_API_TOKEN: token(),
});
const window = { from: moment("--from", -Infinity), to: moment("--to", Infinity) };

/** Exits with code 78 where it is no time: the pattern lets 2026-13-01 pass. */
function moment(name: "--from" | "--to", fallback: number): number {
  const { [name]: value } = given;
  if (value === undefined) return fallback;
  return timeOf(value) ?? refuseArguments(`${name}: no such time: ${excerpt(value)}. It must be ${timeForm}`);
}

/** @returns the first ones. */
async function writeDifferences(findings: Findings): Promise<readonly Difference[]> {
  const path = given["--differences"];
  // Readable for this user only: it holds what customers get.
  if (path !== undefined) await pipeline(jsonLines(findings), createWriteStream(path, { mode: 0o600 }));
  const first: Difference[] = [];
  for (const difference of findings.differences()) {
    if (first.length === given["--show"]) break;
    first.push(difference);
  }
  return first;
}

function* jsonLines(findings: Findings): Generator<string> {
  for (const difference of findings.differences()) yield `${JSON.stringify(difference)}\n`;
}

const comparison = new Comparison({ idPointer: given["--id-at"] });
try {
  await readBothSides(comparison, {
    api: new EndpointApi(given["--api"], given.TIDEGATE_API_TOKEN),
    endpoint: given["--endpoint"],
    ...{ reference: given["--reference"], path: given["--path"] },
    pointers: pointersOf(given),
  });
  const findings = new Findings(comparison, window);
  const { gaps } = findings;
  const differences = await writeDifferences(findings);
  const buckets = bucketsOf(findings.latencies());
  const names = [`ledger of ${given["--endpoint"]}`, given["--reference"]] as const;
  if (given["--svg"] !== undefined) {
    await writeFile(given["--svg"], histogramSvg(buckets, `From the publication to ${given["--reference"]}`));
  }
  const latencyMs = findings.latencySummary();
  process.stdout.write(
    given["--json"]
      ? `${JSON.stringify({ ...findings.counts, gaps, ...(latencyMs && { latencyMs: { ...latencyMs, histogram: buckets } }), differences })}\n`
      : reportText(findings, { gaps, differences, buckets, names }),
  );
  process.exitCode = findings.isEqual ? 0 : 1;
} catch (error) {
  process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`);
  process.exitCode = 2;
} finally {
  comparison.close();
}
