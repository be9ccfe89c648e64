/** Figures and verdicts on what a crowd of clients saw. */
import { histogramText } from "./histogram.ts";
import type { Verdict } from "./scenario-report.ts";
import type { MemberKind, Tally } from "./tally.ts";

const names: Record<MemberKind, string> = { sdk: "SDK", stock: "stock" };

/** @param phases all phases to report; @param event the phase in which connections move or break. */
export function crowdFigures(tally: Tally, phases: readonly string[], event: string): Record<string, string | number> {
  const figures: Record<string, string | number> = {};
  for (const kind of kindsOf(tally)) {
    const total = (what: string): number => tally.total(`${what}/${kind}`);
    for (const phase of phases) {
      const latency = tally.durations(`latency/${phase}/${kind}/*`);
      figures[`${names[kind]}, ${phase}: publish → receive`] = histogramText(latency);
    }
    figures[`${names[kind]}: moved without a gap, lost the connection, refused`] =
      `${tally.total(`moved/${event}/${kind}/*`)}, ${tally.total(`lost/${event}/${kind}/*`)}, ` +
      refusalsText(tally.counts(`refused/${event}/${kind}/*`));
    figures[`${names[kind]}: welcomed as resumed, as new`] =
      `${tally.total(`welcomed/${event}/${kind}/resumed`)}, ${tally.total(`welcomed/${event}/${kind}/new`)}`;
    figures[`${names[kind]}: without a connection`] = histogramText(tally.durations(`away/${event}/${kind}`));
    figures[`${names[kind]}: received, missed, doubled, signalled`] =
      `${total("received")}, ${total("missed")}, ${total("doubled")}, ${total("signalled")}`;
  }
  return figures;
}

/** SDK clients get everything once and in order; stock clients may miss what the gateway announced as a gap. */
export function deliveryVerdicts(tally: Tally): Verdict[] {
  return kindsOf(tally).flatMap((kind) => {
    const none = (title: string, what: string): Verdict => {
      const value = tally.total(`${what}/${kind}`);
      return { title: `${names[kind]} clients: ${title}`, pass: value === 0, value };
    };
    return [
      none(kind === "sdk" ? "nothing is missed" : "nothing is missed without a signal", "missed"),
      none("nothing comes twice", "doubled"),
      none("nothing comes out of order", "reordered"),
      none("every channel is followed", "unfollowed"),
      ...(kind === "sdk" ? [none("no client has to resync", "signalled")] : []),
    ];
  });
}

function kindsOf(tally: Tally): MemberKind[] {
  return (["sdk", "stock"] as const).filter((kind) => tally.total(`welcomed/*/${kind}/*`) > 0);
}

function refusalsText(refusals: Readonly<Record<string, number>>): string {
  const parts = Object.entries(refusals).map(([key, count]) => `${count} ${key.split("/").at(-1)}`);
  return parts.length === 0 ? "none" : parts.join(" and ");
}
