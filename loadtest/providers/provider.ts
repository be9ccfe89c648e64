/**
 * Behaves as Facebook does: sends webhooks at a rate over keep-alive connections, wants a 2xx within a deadline, repeats what
 * failed after a growing pause, and unsubscribes for good once too much has failed. Strict: a connection that breaks is a failure.
 */
import { createHmac } from "node:crypto";
import { Agent, request } from "node:http";
import { setTimeout as pause } from "node:timers/promises";

export interface ProviderOptions {
  /** Of the source, at a balancer. */
  readonly url: string;
  readonly secret: string;
  readonly connections: number;
  /** Over all keys. */
  readonly perSecond: number;
  /** A webhook of a key is sent once the one before is accepted: providers that send at once promise no order. */
  readonly keys: readonly string[];
  /** Member of each body besides `key` and `n`. */
  readonly tenant?: string;
  /** The provider gives up an answer after that. Facebook: 5 s. */
  readonly deadlineMs?: number;
  /** So many failures within {@link ProviderOptions.windowMs} end the subscription. */
  readonly maxFailures?: number;
  readonly windowMs?: number;
}

const firstRetryMs = 100;
const maxRetryMs = 5_000;
const sendEveryMs = 5;

interface Key {
  readonly name: string;
  /** When each of its webhooks was accepted, by `performance.now()`. */
  readonly acceptedAt: number[];
  isBusy: boolean;
}

export class Provider {
  readonly #options: ProviderOptions;
  readonly #agent: Agent;
  readonly #keys: readonly Key[];
  readonly #stopping = new AbortController();
  /** By `performance.now()`. */
  readonly #failedAt: number[] = [];
  /** What the failures were, with how often: a status, or an error of the connection. */
  readonly failures = new Map<string, number>();
  readonly answerMs: number[] = [];
  isUnsubscribed = false;
  #inFlight = 0;
  #running: Promise<void> | undefined;

  constructor(options: ProviderOptions) {
    this.#options = options;
    // In turn: a connection that is never used would not learn that its server drains.
    this.#agent = new Agent({ keepAlive: true, maxSockets: options.connections, scheduling: "fifo" });
    this.#keys = options.keys.map((name) => ({ name, acceptedAt: [], isBusy: false }));
  }

  /** By key, when its webhooks were answered 2xx: they are numbered from 1. */
  get accepted(): ReadonlyMap<string, readonly number[]> {
    return new Map(this.#keys.map(({ name, acceptedAt }) => [name, acceptedAt]));
  }

  get total(): number {
    return this.#keys.reduce((sum, { acceptedAt }) => sum + acceptedAt.length, 0);
  }

  /** How often something failed. */
  get failed(): number {
    return [...this.failures.values()].reduce((sum, times) => sum + times, 0);
  }

  start(): void {
    this.#running = this.#run();
  }

  /** Resolves once what was begun is accepted, or the subscription ended. */
  async stop(): Promise<void> {
    this.#stopping.abort();
    await this.#running;
    this.#agent.destroy();
  }

  async #run(): Promise<void> {
    const { perSecond, connections } = this.#options;
    const { signal } = this.#stopping;
    const under = new Set<Promise<void>>();
    let [sent, turn] = [0, 0];
    const startedAt = performance.now();
    while (!signal.aborted && !this.isUnsubscribed) {
      const due = Math.floor(((performance.now() - startedAt) * perSecond) / 1_000);
      // A key whose webhook is under way leaves its turn to the next one.
      for (let looked = 0; sent < due && looked < this.#keys.length && this.#inFlight < connections; looked++) {
        const key = this.#keys[turn++ % this.#keys.length];
        if (!key || key.isBusy) continue;
        sent++;
        looked = -1;
        const sending = this.#deliver(key).finally(() => under.delete(sending));
        under.add(sending);
      }
      await pause(sendEveryMs, undefined, { signal }).catch(() => undefined);
    }
    await Promise.all(under);
  }

  /** Until it is accepted. */
  async #deliver(key: Key): Promise<void> {
    key.isBusy = true;
    const { tenant } = this.#options;
    const n = key.acceptedAt.length + 1;
    const body = JSON.stringify({ key: key.name, n, ...(tenant !== undefined && { tenant }) });
    for (let retryMs = firstRetryMs; !this.isUnsubscribed; retryMs = Math.min(maxRetryMs, 2 * retryMs)) {
      const failure = await this.#post(body, `${key.name}-${n}`);
      if (failure === undefined) {
        key.acceptedAt.push(performance.now());
        break;
      }
      this.#fail(failure);
      await pause(retryMs);
    }
    key.isBusy = false;
  }

  #fail(failure: string): void {
    const { maxFailures = 20, windowMs = 60_000 } = this.#options;
    const now = performance.now();
    this.failures.set(failure, (this.failures.get(failure) ?? 0) + 1);
    this.#failedAt.push(now);
    while ((this.#failedAt[0] ?? now) < now - windowMs) this.#failedAt.shift();
    if (this.#failedAt.length >= maxFailures) this.isUnsubscribed = true;
  }

  /** @returns undefined where it is accepted. */
  async #post(body: string, id: string): Promise<string | undefined> {
    const { url, secret, deadlineMs = 5_000, connections } = this.#options;
    // The deadline begins with a connection.
    while (this.#inFlight >= connections) await pause(sendEveryMs);
    this.#inFlight++;
    const signature = createHmac("sha256", secret).update(body).digest("hex");
    const startedAt = performance.now();
    const { promise, resolve } = Promise.withResolvers<string | undefined>();
    const sent = request(url, {
      method: "POST",
      agent: this.#agent,
      headers: {
        "content-type": "application/json",
        "content-length": Buffer.byteLength(body),
        "x-hub-signature-256": `sha256=${signature}`,
        "x-github-delivery": id,
      },
    });
    const late = setTimeout(() => {
      resolve(`no answer within ${deadlineMs} ms`);
      sent.destroy();
    }, deadlineMs);
    sent.on("response", (response) => {
      const { statusCode = 0 } = response;
      response.resume();
      response.on("end", () => resolve(statusCode >= 200 && statusCode < 300 ? undefined : String(statusCode)));
      response.on("close", () => resolve("the answer ended early"));
    });
    sent.on("error", (error: Error & { code?: string }) => resolve(error.code ?? error.message));
    sent.end(body);
    const failure = await promise;
    clearTimeout(late);
    this.#inFlight--;
    if (failure === undefined) this.answerMs.push(performance.now() - startedAt);
    return failure;
  }
}
