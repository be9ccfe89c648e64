/** Samples the gateways' outboxes once a second, and finds out how the first gateway closed a slow reader. */
import { metricValue, readMetrics } from "./metrics.ts";

const sampleEveryMs = 1_000;

/** Reads the metrics of every gateway, so that the reading itself costs all of them the same. */
export class OutboxSampler {
  readonly #adminUrls: readonly string[];
  readonly #onError: (error: unknown) => void;
  #timer: NodeJS.Timeout | undefined;
  /** Unix ms. */
  #closedAt: number | undefined;
  largestBytes = 0;

  constructor(adminUrls: readonly string[], onError: (error: unknown) => void) {
    this.#adminUrls = adminUrls;
    this.#onError = onError;
  }

  start(): void {
    this.#timer = setInterval(() => void this.#sample().catch(this.#onError), sampleEveryMs);
  }

  stop(): void {
    clearInterval(this.#timer);
  }

  /**
   * @param slowFrom Unix ms, when the client stopped reading.
   * @returns the causes for which the first gateway closed it, such as `bytes, after 9 s`, or `no`.
   */
  async closeCause(slowFrom: number): Promise<string> {
    const page = await readMetrics(this.#adminUrls[0] ?? "");
    const causes = ["bytes", "stalled"].filter(
      (cause) => metricValue(page, `slow_consumers_total{cause="${cause}"}`) > 0,
    );
    if (metricValue(page, 'disconnects_total{reason="ping_timeout"}') > 0) causes.push("ping_timeout");
    const after = this.#closedAt === undefined ? "" : `, after ${((this.#closedAt - slowFrom) / 1_000).toFixed(0)} s`;
    return causes.length === 0 ? "no" : `${causes.join(", ")}${after}`;
  }

  async #sample(): Promise<void> {
    const pages = await Promise.all(this.#adminUrls.map(async (url) => readMetrics(url)));
    this.largestBytes = Math.max(this.largestBytes, ...pages.map((page) => metricValue(page, "outbox_largest_bytes")));
    const isClosed = /disconnects_total\{reason="(slow_consumer|ping_timeout)"\}/.test(pages[0] ?? "");
    if (isClosed) this.#closedAt ??= Date.now();
  }
}
