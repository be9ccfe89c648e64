/** Publishes at a steady rate whatever the answers are, and keeps them apart by the phase in which a call was sent. */
import type { Deployment } from "./fleet.ts";
import { say } from "./scenario.ts";

export type OutagePhase = "before" | "during" | "after";

export interface AnswerCounts {
  ok: number;
  /** 503 with Retry-After. */
  refused: number;
  other: number;
}

/** Calls under way; calls due beyond that are skipped and counted. */
const maxUnderWay = 2_000;
const publishEveryMs = 10;
const answerWithinMs = 20_000;

const now = (): number => performance.now();
const noCounts = (): AnswerCounts => ({ ok: 0, refused: 0, other: 0 });

export class OutagePublisher {
  readonly #deployment: Deployment;
  readonly #options: {
    readonly channels: readonly string[];
    readonly perSecond: number;
    readonly payloadBytes: number;
  };
  readonly #underWay = new Set<Promise<void>>();
  #timer: NodeJS.Timeout | undefined;
  #startedAt = 0;
  #due = 0;
  phase: OutagePhase = "before";
  readonly counts = { before: noCounts(), during: noCounts(), after: noCounts() };
  readonly refusalMs: number[] = [];
  /** Acknowledged offsets by channel. */
  readonly acked = new Map<string, Set<number>>();
  /** The first offset by channel that was published after the outage. */
  readonly firstAfterOutage = new Map<string, number>();
  /** The first answer after the outage; by `performance.now()`. */
  firstOkAt: number | undefined;
  skipped = 0;

  /** @param options.channels receive publications in turn. */
  constructor(
    deployment: Deployment,
    options: { channels: readonly string[]; perSecond: number; payloadBytes: number },
  ) {
    this.#deployment = deployment;
    this.#options = options;
  }

  start(): void {
    const { channels, perSecond } = this.#options;
    this.#startedAt = now();
    this.#timer = setInterval(() => {
      for (const until = ((now() - this.#startedAt) / 1_000) * perSecond; this.#due < until; this.#due++) {
        if (this.#underWay.size >= maxUnderWay) this.skipped++;
        else this.#begin(channels[this.#due % channels.length] ?? "");
      }
    }, publishEveryMs);
  }

  /** Resolves once every call is answered. */
  async stop(): Promise<void> {
    clearInterval(this.#timer);
    await Promise.all(this.#underWay);
  }

  #begin(channel: string): void {
    // Counts by the time of sending: a call under way when Redis dies belongs to "before".
    const counts = this.counts[this.phase];
    const call = this.#publish(channel, counts)
      .catch((error: unknown) => {
        counts.other++;
        if (counts.other < 5) say(String(error));
      })
      .finally(() => this.#underWay.delete(call));
    this.#underWay.add(call);
  }

  async #publish(channel: string, counts: AnswerCounts): Promise<void> {
    const { privateApi, privateApiToken } = this.#deployment;
    const sentIn = this.phase;
    const sentAt = now();
    const answer = await fetch(`${privateApi}/v1/publish`, {
      method: "POST",
      headers: { authorization: `Bearer ${privateApiToken}`, "content-type": "application/json" },
      body: JSON.stringify({ channel, event: "tick", data: { filler: "x".repeat(this.#options.payloadBytes) } }),
      signal: AbortSignal.timeout(answerWithinMs),
    });
    if (answer.status === 503 && answer.headers.has("retry-after")) {
      await answer.text();
      counts.refused++;
      this.refusalMs.push(now() - sentAt);
      return;
    }
    if (answer.status !== 200) throw new Error(`publish: ${answer.status} ${await answer.text()}`);
    const { offset } = (await answer.json()) as { offset: number };
    counts.ok++;
    this.acked.set(channel, (this.acked.get(channel) ?? new Set()).add(offset));
    if (sentIn !== "after") return;
    this.firstOkAt ??= now();
    const first = this.firstAfterOutage.get(channel);
    if (first === undefined || offset < first) this.firstAfterOutage.set(channel, offset);
  }
}

export function countsText({ ok, refused, other }: AnswerCounts): string {
  return `${ok} ok, ${refused} with 503 and Retry-After, ${other} other`;
}
