/** Metrics in the Prometheus format. Names start with `tidegate_`; labels have few, fixed values. */
import { collectDefaultMetrics, Counter, Gauge, Histogram, Registry } from "prom-client";

export type { Counter, Gauge, Histogram };

/** Seconds, from a local hop to the longest deadline. */
const latencyBuckets = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10];

type NumbersByLabel = Readonly<Record<string, number>>;

/** One value of a counter. */
export interface Tally {
  count: number;
}

/** A counter: metric name, help text, labels. */
type CounterRow = readonly [name: string, help: string, ...labels: string[]];
type LabelOf<Row> = Row extends readonly [string, string, ...infer Labels extends readonly string[]]
  ? Labels[number]
  : never;
/** The counters of a table, by its keys. */
export type Counters<Table extends Readonly<Record<string, CounterRow>>> = {
  [Key in keyof Table]: Counter<LabelOf<Table[Key]>>;
};

/** The metrics of one program; two programs in one process have separate ones. */
export class Metrics {
  readonly #registry = new Registry();

  constructor() {
    collectDefaultMetrics({ register: this.#registry });
  }

  counters<const Table extends Readonly<Record<string, CounterRow>>>(table: Table): Counters<Table> {
    const counters = Object.entries(table).map(([key, [name, help, ...labels]]) => [
      key,
      this.counter(name, help, labels),
    ]);
    return Object.fromEntries(counters) as Counters<Table>;
  }

  counter<Label extends string = never>(name: string, help: string, labelNames: Label[] = []): Counter<Label> {
    return new Counter({ name: `tidegate_${name}`, help, labelNames, registers: [this.#registry] });
  }

  /** A counter for frequent events: prom-client sees the labels only at a scrape. Keep the tally of a set of labels, and add to its `count`. */
  tallies<Label extends string>(
    name: string,
    help: string,
    labelNames: readonly Label[],
  ): (labels: Readonly<Record<Label, string>>) => Tally {
    const tallies = new Map<string, Tally & { labels: Readonly<Record<Label, string>> }>();
    this.#readCounter(name, help, labelNames, () => tallies.values());
    return (labels) => {
      const key = JSON.stringify(labelNames.map((label) => labels[label]));
      const known = tallies.get(key);
      if (known) return known;
      const tally = { labels, count: 0 };
      tallies.set(key, tally);
      return tally;
    };
  }

  histogram<Label extends string = never>(name: string, help: string, labelNames: Label[] = []): Histogram<Label> {
    return new Histogram({
      name: `tidegate_${name}`,
      help,
      labelNames,
      buckets: latencyBuckets,
      registers: [this.#registry],
    });
  }

  /** A gauge that is read on each scrape; left out while `read` gives undefined. */
  gauge(name: string, help: string, read: () => number | Promise<number | undefined>): void {
    const gauge: Gauge = new Gauge({
      name: `tidegate_${name}`,
      help,
      registers: [this.#registry],
      collect: async () => {
        const number = await read();
        if (number === undefined) gauge.remove();
        else gauge.set(number);
      },
    });
  }

  /** Gauges that differ by one label, read on each scrape. */
  gauges(name: string, help: string, label: string, read: () => NumbersByLabel | Promise<NumbersByLabel>): void {
    this.labelledGauges(name, help, [label], async () =>
      Object.entries(await read()).map(([labelled, value]) => ({ labels: { [label]: labelled }, value })),
    );
  }

  /** Gauges that differ by several labels, read on each scrape. */
  labelledGauges<Label extends string>(
    name: string,
    help: string,
    labels: readonly Label[],
    read: () => Promise<readonly { labels: Record<Label, string>; value: number }[]>,
  ): void {
    const gauge: Gauge = new Gauge({
      name: `tidegate_${name}`,
      help,
      labelNames: [...labels],
      registers: [this.#registry],
      collect: async () => {
        const numbers = await read();
        gauge.reset();
        for (const { labels: own, value } of numbers) gauge.set(own, value);
      },
    });
  }

  /** Counters that differ by one label; `read` gives the totals on each scrape. */
  counts(name: string, help: string, label: string, read: () => NumbersByLabel): void {
    this.#readCounter(name, help, [label], () =>
      Object.entries(read()).map(([value, count]) => ({ labels: { [label]: value }, count })),
    );
  }

  /** A counter whose values are read on each scrape. */
  #readCounter<Label extends string>(
    name: string,
    help: string,
    labelNames: readonly Label[],
    read: () => Iterable<{ labels: Readonly<Record<Label, string>>; count: number }>,
  ): void {
    const counter = new Counter({
      name: `tidegate_${name}`,
      help,
      labelNames: [...labelNames],
      registers: [this.#registry],
      collect: () => {
        counter.reset();
        for (const { labels, count } of read()) counter.inc(labels, count);
      },
    });
  }

  get contentType(): string {
    return this.#registry.contentType;
  }

  /** The Prometheus text format. */
  async render(): Promise<string> {
    return this.#registry.metrics();
  }
}
