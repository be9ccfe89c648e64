/** Bursts of changes to the endpoints of one deployment, each beside bare signed POSTs to the same receivers. */
import { BarePosts } from "./bare-posts.ts";
import type { EndpointBench } from "./endpoint-bench.ts";
import type { Burst } from "./endpoint-report.ts";
import type { HookSink } from "./hook-sink.ts";

/** Bursts until both programs run compiled code. */
export const warmUpBursts = 6;
/** After each burst, at most. */
const barePosts = 10_000;

/** The caller stops it. */
export class EndpointBursts {
  readonly #bench: EndpointBench;
  readonly #sink: HookSink;
  readonly #changes: number;
  readonly #bare = new BarePosts();
  #connections = 0;
  #count = 0;

  /** @param options.changes of one burst */
  constructor(options: { bench: EndpointBench; sink: HookSink; changes: number }) {
    this.#bench = options.bench;
    this.#sink = options.sink;
    this.#changes = options.changes;
  }

  async measure(): Promise<Burst> {
    const name = `burst${lettersOf(this.#count++)}`;
    const burst = await this.#bench.measure(name, { perSecond: Infinity, changes: this.#changes });
    // Later ones would count those of the bare POSTs as well.
    this.#connections ||= Math.max(1, burst.connections);
    const { apiCpuMs } = await this.#bench.measure(`${name}n`, {
      perSecond: Infinity,
      changes: this.#changes,
      to: "none",
    });
    const order = { urls: await this.#sink.urls(), atOnce: this.#connections };
    const bareMicros = await this.#bare.measure({ ...order, posts: Math.min(barePosts, burst.deliveries) });
    return { ...burst, connections: this.#connections, publishCpuMs: apiCpuMs, bareMicros };
  }

  async stop(): Promise<void> {
    await this.#bare.stop();
  }
}

/** Two letters, for 676 numbers. */
function lettersOf(n: number): string {
  const letterOf = (digit: number): string => String.fromCodePoint("a".charCodeAt(0) + (digit % 26));
  return letterOf(Math.floor(n / 26)) + letterOf(n);
}
