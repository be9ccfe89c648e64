/** The report of fan-out, from k6's result and the use of CPU and memory. */
import { availableParallelism } from "node:os";
import type { Usage, UsageRecorder } from "./usage.ts";

interface Percentiles {
  readonly p50: number;
  readonly p95: number;
  readonly p99: number;
  readonly max: number;
}

interface Verdict {
  readonly title: string;
  readonly pass: boolean;
  readonly metric: string;
  readonly value: number;
}

/** The result that k6/fan-out.js writes. Times in Unix ms; `measured` counts publications of the window alone. */
export interface FanOutResult {
  readonly parameters: {
    readonly clients: number;
    readonly channels: number;
    readonly nodes: number;
    readonly ratePerSecond: number;
    readonly burst: number;
    readonly rampSeconds: number;
    readonly payloadBytes: number;
  };
  readonly window: { readonly from: number; readonly until: number };
  readonly deliveries: { readonly total: number; readonly measured: number };
  readonly publications: { readonly total: number; readonly measured: number };
  readonly refused: number;
  readonly latencyMs?: Percentiles;
  readonly connectAndSubscribeMs?: Percentiles;
  readonly publishMs?: Percentiles;
  readonly verdicts: readonly Verdict[];
}

/** Sums over all processes of a role, within the measured window. */
interface RoleUsage {
  readonly processes: number;
  readonly cpuMs: number;
  /** 1: one core for the whole window. */
  readonly cores: number;
  readonly cpuMicrosPerDelivery: number;
  readonly cpuMicrosPerPublication: number;
  /** Before the first client, and at the end of the window. */
  readonly rssBytes: { readonly before: number; readonly loaded: number };
}

export interface Report extends FanOutResult {
  readonly pass: boolean;
  /** By role. Lacks the servers of a foreign deployment, and every process where there is no /proc. */
  readonly usage: Readonly<Record<string, RoleUsage>>;
  /** Of this machine, which the generator shares with the servers that it starts. */
  readonly cores: number;
  readonly gatewayRssBytesPerConnection?: number;
}

export function createReport(
  result: FanOutResult,
  recorders: ReadonlyMap<string, readonly UsageRecorder[]>,
  options: { startedAt: number; died: readonly string[] },
): Report {
  const verdicts = [...result.verdicts];
  if (recorders.has("gateway")) {
    const count = options.died.length;
    verdicts.push({ title: "every server ran to the end", pass: count === 0, metric: "died", value: count });
  }
  const usage: Record<string, RoleUsage> = {};
  for (const [role, ofRole] of recorders) {
    const used = roleUsage(result, ofRole, options.startedAt);
    if (used) usage[role] = used;
  }
  const { gateway } = usage;
  return {
    ...result,
    verdicts,
    pass: verdicts.every(({ pass }) => pass),
    usage,
    cores: availableParallelism(),
    ...(gateway && {
      gatewayRssBytesPerConnection: (gateway.rssBytes.loaded - gateway.rssBytes.before) / result.parameters.clients,
    }),
  };
}

function roleUsage(
  { window, deliveries, publications }: FanOutResult,
  recorders: readonly UsageRecorder[],
  startedAt: number,
): RoleUsage | undefined {
  const samples = (moment: number): Usage[] => recorders.flatMap((recorder) => recorder.at(moment) ?? []);
  const sum = (usages: readonly Usage[], field: keyof Usage): number =>
    usages.reduce((total, usage) => total + usage[field], 0);
  const [before, first, last] = [samples(startedAt), samples(window.from), samples(window.until)];
  if (first.length < recorders.length) return undefined;
  const cpuMs = sum(last, "cpuMs") - sum(first, "cpuMs");
  return {
    processes: recorders.length,
    cpuMs,
    cores: cpuMs / (window.until - window.from),
    cpuMicrosPerDelivery: (cpuMs * 1_000) / deliveries.measured,
    cpuMicrosPerPublication: (cpuMs * 1_000) / publications.measured,
    rssBytes: { before: sum(before, "rssBytes"), loaded: sum(last, "rssBytes") },
  };
}

export function reportText(report: Report): string {
  const { parameters, window, deliveries, publications, usage } = report;
  const seconds = (window.until - window.from) / 1_000;
  const lines = [
    `fan-out: ${parameters.clients} clients on ${parameters.nodes} nodes, ${parameters.channels} channels, ` +
      `${parameters.ratePerSecond} publications/s in bursts of ${parameters.burst}, ` +
      `${parameters.payloadBytes} bytes of filler, window of ${fixed(seconds)} s`,
    "",
    `  in the window          ${publications.measured} publications, ${deliveries.measured} deliveries ` +
      `(${fixed(deliveries.measured / seconds, 0)}/s)`,
    `  publish → receive      ${percentiles(report.latencyMs)}`,
    `  connect + subscribe    ${percentiles(report.connectAndSubscribeMs)}` +
      (report.refused > 0 ? `, ${report.refused} refusals retried` : ""),
    `  publish call           ${percentiles(report.publishMs)}`,
  ];
  lines.push("", `  CPU, of ${report.cores} cores       cores   µs per delivery   µs per publication`);
  for (const [role, used] of Object.entries(usage)) {
    const name = used.processes > 1 ? `${role} (${used.processes} together)` : role;
    lines.push(
      `    ${name.padEnd(20)} ${fixed(used.cores, 2).padStart(5)} ${fixed(used.cpuMicrosPerDelivery).padStart(17)} ` +
        fixed(used.cpuMicrosPerPublication, 0).padStart(20),
    );
  }
  if (usage["gateway"] && report.gatewayRssBytesPerConnection !== undefined) {
    const { before, loaded } = usage["gateway"].rssBytes;
    lines.push(
      "",
      `  memory of the gateways ${mib(before)} before, ${mib(loaded)} loaded: ` +
        `${fixed(report.gatewayRssBytesPerConnection / 1024)} KiB of RSS per connection`,
    );
  }
  lines.push("");
  for (const { title, pass, metric, value } of report.verdicts) {
    lines.push(`  ${pass ? "PASS" : "FAIL"}  ${title} (${metric}: ${value})`);
  }
  lines.push("", report.pass ? "PASS" : "FAIL", "");
  return lines.join("\n");
}

function percentiles(values: Percentiles | undefined): string {
  if (!values) return "nothing measured";
  return `p50 ${fixed(values.p50)} ms, p95 ${fixed(values.p95)} ms, p99 ${fixed(values.p99)} ms, max ${fixed(values.max)} ms`;
}

function fixed(value: number, digits = 1): string {
  return Number.isFinite(value) ? value.toFixed(digits) : "–";
}

function mib(bytes: number): string {
  return `${fixed(bytes / 1024 ** 2, 0)} MiB`;
}
