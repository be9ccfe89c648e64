/** A provider that sends numbered items of some keys as webhooks to one gateway, each until it is answered 2xx. */
import { createHmac } from "node:crypto";
import { setTimeout as pause } from "node:timers/promises";
import type { ItemSender } from "./item-sender.ts";
import type { KeyLedger } from "./key-ledger.ts";
import type { ItemData } from "./receiver.ts";

export interface HookEmitterOptions {
  /** With a journal a key keeps its order on one gateway (JRN-4). */
  readonly url: string;
  readonly secret: string;
  /** The source of each key, which has to select the key in `/key` and the id in `x-github-delivery`. */
  readonly keys: readonly { readonly source: string; readonly ledger: KeyLedger }[];
  /** Items per second of each key. */
  readonly perSecond: number;
  /** From 0 to 1. */
  readonly random: () => number;
  /** Called with the gateway's address as a 2xx arrives. */
  readonly onAck?: (url: string) => void;
}

/** After that time without an answer the outcome is unknown. */
const answerWithinMs = 15_000;
const retryMs = 100;

export class HookEmitter implements ItemSender {
  readonly #options: HookEmitterOptions;
  readonly #giveUp = new AbortController();
  #underWay = new AbortController();
  readonly connected = true;
  readonly connects = 0;
  failures = 0;
  readonly refusals = new Map<string, number>();
  lastEnd = "";

  constructor(options: HookEmitterOptions) {
    this.#options = options;
  }

  start(): void {}

  stop(): void {
    this.#giveUp.abort();
    this.drop();
  }

  drop(): void {
    this.#underWay.abort();
    this.#underWay = new AbortController();
  }

  async run(signal: AbortSignal): Promise<void> {
    await Promise.all(
      this.#options.keys.map(async (key) => {
        while (!signal.aborted) {
          const { random, perSecond } = this.#options;
          await this.#emit(key);
          await pause((2_000 * random()) / perSecond, undefined, { signal }).catch(() => undefined);
        }
      }),
    );
  }

  async runOnce(): Promise<void> {
    await Promise.all(this.#options.keys.map(async (key) => this.#emit(key)));
  }

  async #emit({ source, ledger }: HookEmitterOptions["keys"][number]): Promise<void> {
    const { signal } = this.#giveUp;
    const [number = 0] = ledger.emit(1);
    while (!signal.aborted) {
      const outcome = await this.#post(source, { key: ledger.key, n: number });
      if (outcome === "accepted") {
        ledger.accepted(number, undefined, performance.now());
        this.#options.onAck?.(this.#options.url);
        return;
      }
      this.failures++;
      this.lastEnd = outcome;
      this.refusals.set(outcome, (this.refusals.get(outcome) ?? 0) + 1);
      await pause(retryMs, undefined, { signal }).catch(() => undefined);
    }
  }

  /** @returns `accepted`, the status, or why there is no answer. */
  async #post(source: string, data: ItemData): Promise<string> {
    const { url, secret } = this.#options;
    const body = JSON.stringify(data);
    const signature = createHmac("sha256", secret).update(body).digest("hex");
    return fetch(`${url}/hooks/${source}`, {
      method: "POST",
      headers: {
        "content-type": "application/json",
        "x-github-delivery": `${data.key}-${data.n}`,
        "x-hub-signature-256": `sha256=${signature}`,
      },
      body,
      signal: AbortSignal.any([this.#underWay.signal, AbortSignal.timeout(answerWithinMs)]),
    }).then(
      async (answer) => {
        await answer.arrayBuffer().catch(() => undefined);
        return answer.ok ? "accepted" : `webhook answered ${answer.status}`;
      },
      () => "webhook not answered",
    );
  }
}
