/** Publishes at a steady rate to channels in turn; what falls due together leaves in one batch. */
import type { OwnDeployment } from "./fleet.ts";
import { say } from "./scenario.ts";

/** What falls due in that time leaves in one call. */
const publishEveryMs = 20;
const maxCallsUnderWay = 8;
const maxBatch = 1_000;
const answerWithinMs = 10_000;

export interface BatchPublisherOptions {
  readonly channels: readonly string[];
  /** Publications to all channels together. */
  readonly perSecond: number;
  readonly payloadBytes: number;
}

/** The data of each publication, of the event `tick`. */
export interface BatchTick {
  /** By `performance.now()` of this process. */
  readonly sentAt: number;
  readonly filler: string;
}

export interface Published {
  readonly count: number;
  readonly failed: number;
  readonly seconds: number;
  readonly lastOffsets: ReadonlyMap<string, number>;
}

const now = (): number => performance.now();

export class BatchPublisher {
  readonly #deployment: OwnDeployment;
  readonly #options: BatchPublisherOptions;
  readonly #lastOffsets = new Map<string, number>();
  readonly #underWay = new Set<Promise<void>>();
  #timer: NodeJS.Timeout | undefined;
  #startedAt = 0;
  #sent = 0;
  #failed = 0;
  /** Due and not sent: the machine is too slow for the rate. */
  #skipped = 0;

  constructor(deployment: OwnDeployment, options: BatchPublisherOptions) {
    this.#deployment = deployment;
    this.#options = options;
  }

  start(): void {
    this.#startedAt = now();
    this.#timer = setInterval(() => this.#publishDue(), publishEveryMs);
  }

  /** Resolves once every call is answered. */
  async stop(): Promise<Published> {
    clearInterval(this.#timer);
    const seconds = (now() - this.#startedAt) / 1_000;
    await Promise.all(this.#underWay);
    return { count: this.#sent - this.#failed, failed: this.#failed, seconds, lastOffsets: this.#lastOffsets };
  }

  #publishDue(): void {
    const { channels, perSecond, payloadBytes } = this.#options;
    const due = Math.floor(((now() - this.#startedAt) / 1_000) * perSecond) - this.#sent - this.#skipped;
    const late = Math.max(0, due - Math.ceil(perSecond / 4));
    this.#skipped += late;
    if (this.#underWay.size >= maxCallsUnderWay) return;
    const filler = "x".repeat(payloadBytes);
    const items = Array.from({ length: Math.min(due - late, maxBatch) }, () => {
      const channel = channels[this.#sent++ % channels.length] ?? "";
      return { channel, event: "tick", data: { sentAt: now(), filler } satisfies BatchTick };
    });
    if (items.length === 0) return;
    const call = this.#publish(items)
      .catch((error: unknown) => {
        this.#failed += items.length;
        say(String(error));
      })
      .finally(() => this.#underWay.delete(call));
    this.#underWay.add(call);
  }

  async #publish(items: readonly { channel: string }[]): Promise<void> {
    const { privateApi, privateApiToken } = this.#deployment;
    const answer = await fetch(`${privateApi}/v1/publish/batch`, {
      method: "POST",
      headers: { authorization: `Bearer ${privateApiToken}`, "content-type": "application/json" },
      body: JSON.stringify(items),
      signal: AbortSignal.timeout(answerWithinMs),
    });
    if (!answer.ok) throw new Error(`publish: ${answer.status} ${await answer.text()}`);
    for (const [i, outcome] of ((await answer.json()) as { offset?: number }[]).entries()) {
      const channel = items[i]?.channel ?? "";
      if (outcome.offset === undefined) this.#failed++;
      else this.#lastOffsets.set(channel, Math.max(outcome.offset, this.#lastOffsets.get(channel) ?? 0));
    }
  }
}
