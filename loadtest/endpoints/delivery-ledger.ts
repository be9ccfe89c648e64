/** What one endpoint of a schedule was sent, and the verdict on it. Pure. */
import { type LoggedChange, nameOf } from "./log.ts";
import type { ReaderVerdict, Violation, ViolationKind } from "./violations.ts";

/** One request. Times are of `performance.now()`. */
export interface Delivery extends LoggedChange {
  readonly arrivedAt: number;
  readonly webhookId: string;
  readonly body: string;
  readonly sequence: string;
  readonly isSigned: boolean;
  /** When it was answered 2xx as a whole. */
  takenAt?: number;
}

export interface Expectation {
  /** In its order. */
  readonly log: readonly LoggedChange[];
  /** Whether a declared loss explains that the change is missing, here or in the log. */
  readonly isExplained: (change: LoggedChange) => boolean;
  readonly lossDeclared: boolean;
  /** Deliveries that may come again: of each key one for each fault. */
  readonly maxRepeats: number;
}

/** Violations of a kind that are kept with their text. */
const maxDetails = 10;

export class DeliveryLedger {
  readonly name: string;
  readonly #keyOf: (change: Pick<LoggedChange, "channel" | "key">) => string;
  readonly #deliveries: Delivery[] = [];
  readonly #byChange = new Map<string, Delivery[]>();

  /** @param keyOf what the endpoint keeps in order */
  constructor(name: string, keyOf: (change: Pick<LoggedChange, "channel" | "key">) => string) {
    this.name = name;
    this.#keyOf = keyOf;
  }

  arrived(delivery: Delivery): void {
    this.#deliveries.push(delivery);
    const own = this.#byChange.get(nameOf(delivery));
    if (own) own.push(delivery);
    else this.#byChange.set(nameOf(delivery), [delivery]);
  }

  /** Changes that it has not taken. */
  missing(log: readonly LoggedChange[]): readonly LoggedChange[] {
    return log.filter((change) => this.#takenAt(change) === undefined);
  }

  judge({ log, isExplained, lossDeclared, maxRepeats }: Expectation): ReaderVerdict {
    const found = new Findings();
    const missing = this.missing(log);
    for (const change of missing) if (!isExplained(change)) found.add("missing", textOf(change));
    for (const changes of Map.groupBy(log, this.#keyOf).values()) this.#judgeOrder(changes, { found, lossDeclared });
    const known = new Map(log.map((change) => [nameOf(change), change]));
    let repeats = 0;
    for (const [name, [first, ...others]] of this.#byChange) {
      if (!first) continue;
      const { webhookId, body, item } = first;
      if (others.some((other) => other.webhookId !== webhookId || other.body !== body)) found.add("changed", name);
      const logged = known.get(name);
      if (logged && logged.item !== item) found.add("changed", `${name} is ${item}, in the log ${logged.item}`);
      if (!logged && !isExplained(first)) found.add("unknown", textOf(first));
      const takenAt = this.#takenAt(first) ?? Infinity;
      repeats += others.filter(({ arrivedAt }) => arrivedAt > takenAt).length;
    }
    if (repeats > maxRepeats) found.add("doubled", `${repeats} came again, ${maxRepeats} are explained`);
    for (const delivery of this.#deliveries) if (!delivery.isSigned) found.add("unsigned", textOf(delivery));
    return {
      reader: this.name,
      changes: this.#byChange.size,
      repeats,
      gone: missing.filter(isExplained).length,
      violations: found.all,
    };
  }

  /** Deliveries, one a line. */
  trace(): string[] {
    return this.#deliveries.map((delivery) => {
      const { arrivedAt, takenAt, sequence } = delivery;
      const outcome = takenAt === undefined ? "not taken" : `taken after ${(takenAt - arrivedAt).toFixed(0)} ms`;
      return `${arrivedAt.toFixed(0)} ${textOf(delivery)} sequence ${Number(sequence)}: ${outcome}`;
    });
  }

  /** A change comes first once the one before it is taken. @param changes of one key, in the order of the log */
  #judgeOrder(changes: readonly LoggedChange[], given: { found: Findings; lossDeclared: boolean }): void {
    const { found, lossDeclared } = given;
    let before: LoggedChange | undefined;
    let sequence = "";
    for (const change of changes) {
      const first = this.#byChange.get(nameOf(change))?.[0];
      const takenBefore = before && this.#takenAt(before);
      if (!first) continue;
      if (before && (takenBefore ?? Infinity) > first.arrivedAt) {
        found.add("inverted", `${textOf(change)} came before ${textOf(before)} was taken`);
      }
      // A Redis that lost its latest writes may have lost numbers, too.
      if (first.sequence <= sequence && !lossDeclared) found.add("sequenceBroken", textOf(change));
      ({ sequence } = first);
      before = change;
    }
  }

  /** When the change was taken for the first time. */
  #takenAt(change: Pick<LoggedChange, "channel" | "epoch" | "offset">): number | undefined {
    const taken = (this.#byChange.get(nameOf(change)) ?? []).flatMap(({ takenAt }) => takenAt ?? []);
    return taken.length === 0 ? undefined : Math.min(...taken);
  }
}

/** Counts all, and keeps the first ones of each kind. */
export class Findings {
  readonly #violations: Violation[] = [];
  readonly #counts = new Map<ViolationKind, number>();

  add(kind: ViolationKind, detail: string): void {
    const count = (this.#counts.get(kind) ?? 0) + 1;
    this.#counts.set(kind, count);
    if (count <= maxDetails) this.#violations.push({ kind, detail });
  }

  get all(): readonly Violation[] {
    const more = [...this.#counts].filter(([, count]) => count > maxDetails);
    return [
      ...this.#violations,
      ...more.map(([kind, count]) => ({ kind, detail: `… ${count - maxDetails} more of this kind` })),
    ];
  }
}

function textOf(change: Pick<LoggedChange, "channel" | "epoch" | "offset" | "item">): string {
  return `${change.item} (${nameOf(change)})`;
}
