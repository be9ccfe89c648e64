/**
 * Stands in for Facebook: customers who write to a page, signed webhooks for what they write, and the Send API for the
 * page's replies. It checks the answers to its webhooks as Facebook does: anything but 200 within 5 s is a failure, and
 * the webhook is repeated.
 */
import { createHmac, randomUUID } from "node:crypto";
import { EventEmitter } from "node:events";
import { setImmediate, setTimeout } from "node:timers/promises";

export interface FacebookOptions {
  pageId: string;
  /** Signs the webhooks. */
  appSecret: string;
  /** Proves to the webhook's address that Facebook asks for the challenge. */
  verifyToken: string;
}

export interface Customer {
  id: string;
  name: string;
  /** The newest, in order. */
  messages: { from: "customer" | "page"; text: string }[];
}

/** How webhooks were answered. `waiting` counts messages and receipts that are not accepted yet. */
export interface WebhookFigures {
  accepted: number;
  failed: number;
  waiting: number;
  slowestMs: number;
  lastFailure: string;
}

type MessagingEvent = Readonly<Record<string, unknown>>;

const answerTimeoutMs = 5_000;
const retryMs = 500;
const maxEventsPerWebhook = 100;
const maxWaiting = 1_000;
const maxMessagesKept = 50;

export class Facebook extends EventEmitter<{ change: [] }> {
  readonly #options: FacebookOptions;
  readonly #customers: readonly Customer[] = [
    { id: "24001", name: "Mia Torres", messages: [] },
    { id: "24002", name: "Kofi Mensah", messages: [] },
    { id: "24003", name: "Yuki Tanaka", messages: [] },
  ];
  readonly #webhooks: WebhookFigures = { accepted: 0, failed: 0, waiting: 0, slowestMs: 0, lastFailure: "" };
  readonly #outbox: MessagingEvent[] = [];
  readonly #stopping = new AbortController();
  #hookUrl: string | null = null;
  #isDelivering = false;

  constructor(options: FacebookOptions) {
    super();
    this.#options = options;
  }

  get customers(): readonly Customer[] {
    return this.#customers;
  }

  get webhooks(): Readonly<WebhookFigures> {
    return { ...this.#webhooks, waiting: this.#outbox.length };
  }

  /**
   * As in Facebook's console: asks the address for the challenge, and sends webhooks there from now on.
   * @throws where the address does not answer with the challenge
   */
  async subscribe(hookUrl: string): Promise<void> {
    const challenge = String(Date.now());
    const asked = {
      "hub.mode": "subscribe",
      "hub.verify_token": this.#options.verifyToken,
      "hub.challenge": challenge,
    };
    const response = await fetch(`${hookUrl}?${new URLSearchParams(asked).toString()}`);
    if (response.status !== 200 || (await response.text()) !== challenge) {
      throw new Error(`${hookUrl} does not answer Facebook's challenge: check the source in the rules`);
    }
    this.#hookUrl = hookUrl;
    void this.#deliver();
  }

  /**
   * A customer writes to the page.
   * @returns false where the customer does not exist, or too much waits for the webhook's address
   */
  write(customerId: string, text: string): boolean {
    const customer = this.#find(customerId);
    if (!customer || this.#outbox.length >= maxWaiting) return false;
    keep(customer, { from: "customer", text });
    this.#notify(customerId, { message: { mid: newMid(), text } });
    return true;
  }

  /**
   * The Send API: the page writes to a customer, who gets the message at once.
   * @returns the message's id; undefined where the customer does not exist
   */
  send(customerId: string, text: string): string | undefined {
    const customer = this.#find(customerId);
    if (!customer) return undefined;
    const mid = newMid();
    keep(customer, { from: "page", text });
    this.#notify(customerId, { delivery: { mids: [mid], watermark: Date.now() } });
    return mid;
  }

  stop(): void {
    this.#stopping.abort();
  }

  #find(customerId: string): Customer | undefined {
    return this.#customers.find(({ id }) => id === customerId);
  }

  #notify(customerId: string, content: MessagingEvent): void {
    const { pageId } = this.#options;
    this.#outbox.push({ sender: { id: customerId }, recipient: { id: pageId }, timestamp: Date.now(), ...content });
    this.emit("change");
    void this.#deliver();
  }

  /** Sends what waits, one webhook after the other, each until it is accepted. */
  async #deliver(): Promise<void> {
    if (this.#isDelivering || this.#hookUrl === null) return;
    this.#isDelivering = true;
    // What several customers write at once leaves in one webhook.
    await setImmediate();
    while (this.#outbox.length > 0 && !this.#stopping.signal.aborted) {
      const events = this.#outbox.slice(0, maxEventsPerWebhook);
      const isAccepted = await this.#post(this.#hookUrl, events);
      if (isAccepted) this.#outbox.splice(0, events.length);
      this.emit("change");
      if (!isAccepted) await setTimeout(retryMs, undefined, { signal: this.#stopping.signal }).catch(() => undefined);
    }
    this.#isDelivering = false;
  }

  async #post(hookUrl: string, messaging: readonly MessagingEvent[]): Promise<boolean> {
    const { pageId, appSecret } = this.#options;
    const body = JSON.stringify({ object: "page", entry: [{ id: pageId, time: Date.now(), messaging }] });
    const signature = createHmac("sha256", appSecret).update(body).digest("hex");
    const startedMs = performance.now();
    const failure = await fetch(hookUrl, {
      method: "POST",
      headers: { "content-type": "application/json", "x-hub-signature-256": `sha256=${signature}` },
      body,
      signal: AbortSignal.any([AbortSignal.timeout(answerTimeoutMs), this.#stopping.signal]),
    }).then(
      ({ status }) => (status === 200 ? null : `status ${status}`),
      (error: Error) => (error.name === "TimeoutError" ? "no answer within 5 s" : "no connection"),
    );
    const tookMs = Math.round(performance.now() - startedMs);
    this.#webhooks.slowestMs = Math.max(this.#webhooks.slowestMs, tookMs);
    if (failure === null) this.#webhooks.accepted++;
    else {
      this.#webhooks.failed++;
      this.#webhooks.lastFailure = failure;
    }
    return failure === null;
  }
}

function keep({ messages }: Customer, message: Customer["messages"][number]): void {
  messages.push(message);
  if (messages.length > maxMessagesKept) messages.shift();
}

function newMid(): string {
  return `m_${randomUUID()}`;
}
