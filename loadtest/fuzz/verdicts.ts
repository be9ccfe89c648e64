/** The verdicts on a run. */
import type { Verdict } from "../checks/scenario-report.ts";
import type { FuzzReport } from "./report.ts";

const heapGrowthBytes = 16 * 1024 ** 2;
const rssGrowthBytes = 64 * 1024 ** 2;
/** Generous: the fuzzer keeps the event loops busy, and the honest client queues behind its inputs. */
const honestP99Ms = 3_000;
const honestMaxMs = 10_000;

export function verdictsOn(report: Omit<FuzzReport, "pass" | "verdicts">): Verdict[] {
  const { violations, memory, honest, honestFailures, contained, leftovers, strayWebhooks, endedInOrder } = report;
  const none = (title: string, kind: (typeof violations)[number]["kind"]): Verdict => {
    const found = violations.filter((violation) => violation.kind === kind).length;
    return { title, pass: found === 0, value: found };
  };
  const empty = (title: string, found: readonly string[]): Verdict => ({
    title,
    pass: found.length === 0,
    value: found.join(", ") || "none",
  });
  const atMost = (title: string, value: number, bound: number, unit: string): Verdict => ({
    title: `${title}: ${bound} ${unit} at most`,
    pass: value <= bound,
    value: `${value.toFixed(1)} ${unit}`,
  });
  const growth = (field: "heapBytes" | "rssBytes"): number =>
    Math.max(0, ...memory.map((figures) => figures[field][1] - figures[field][0])) / 1024 ** 2;
  const delays = Object.values(honest).filter(({ count }) => count > 0);
  const slowest = (ofDelay: (delay: (typeof delays)[number]) => number): number => Math.max(0, ...delays.map(ofDelay));
  return [
    none("processes that ended, by cause", "died"),
    none("failures that a process logged, by cause", "logged"),
    empty("contained exceptions", contained),
    none("unanswered requests", "unanswered"),
    none("single inputs over their limit, by kind", "blocked"),
    empty(
      "failures of the honest client",
      Object.entries(honestFailures).map(([what, times]) => `${times} × ${what}`),
    ),
    atMost(
      "delay of the honest client, 99th percentile",
      slowest((delay) => delay.percentile(0.99)),
      honestP99Ms,
      "ms",
    ),
    atMost(
      "… longest",
      slowest(({ max }) => max),
      honestMaxMs,
      "ms",
    ),
    empty("webhooks stored without a signature, or with an outcome that the SPEC lacks", strayWebhooks),
    empty("sessions, seats, calls, bytes and descriptors not freed", leftovers),
    atMost("growth of a heap", growth("heapBytes"), heapGrowthBytes / 1024 ** 2, "MiB"),
    atMost("growth of RSS", growth("rssBytes"), rssGrowthBytes / 1024 ** 2, "MiB"),
    { title: "every program exits in order", pass: endedInOrder, value: String(endedInOrder) },
  ];
}
