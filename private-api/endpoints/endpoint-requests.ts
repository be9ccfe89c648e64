/** Sends single requests to endpoints, as Standard Webhooks, and notes each in the log of attempts. */
import type { Attempt, AttemptLog, EndpointHealth, StoredEndpoint } from "../../shared/endpoints/contract.ts";
import { keptAnswerBytes } from "../../shared/endpoints/contract.ts";
import type { ContainedErrors } from "../../shared/runtime/contained-errors.ts";
import type { Logger } from "../../shared/runtime/logging.ts";
import { encodeHeader } from "../../shared/services/cloudevents.ts";
import type { EndpointClient } from "../../shared/services/endpoint-client.ts";
import type { ExchangeResult } from "../../shared/services/exchange.ts";
import { signWebhook } from "../../shared/services/standard-webhooks.ts";
import { requestParts } from "./request-parts.ts";

/** What one request carries. */
interface Webhook {
  readonly id: string;
  readonly key: string;
  readonly sequence: string;
  /** From 1 on. */
  readonly attempt: number;
  readonly body: string;
}

/** A request under way. */
interface SentAttempt {
  /** Unix ms. */
  readonly at: number;
  /** By `performance.now()` */
  readonly from: number;
  readonly result: Promise<ExchangeResult>;
}

type Writable<Type> = { -readonly [Name in keyof Type]: Type[Name] };

export interface DeliveredAttempt {
  result: ExchangeResult;
  ms: number;
  error?: string;
}

export class EndpointRequests {
  readonly #client: EndpointClient;
  readonly #attempts: AttemptLog;
  readonly #onFailing: (stored: StoredEndpoint, why: { status?: number; health: EndpointHealth }) => Promise<void>;
  /** One function for all attempts. */
  readonly #reportNoteError: (error: unknown) => void;
  readonly #logger: Logger;
  /** Promises that have their failure reported. */
  readonly #watched = new WeakSet<Promise<void>>();
  /** The body of the last request: a change has the same body for each of its endpoints. */
  #lastBody = { text: "", bytes: Buffer.alloc(0) };

  /** @param options.onFailing after each failure */
  constructor(options: {
    client: EndpointClient;
    attempts: AttemptLog;
    onFailing: (stored: StoredEndpoint, why: { status?: number; health: EndpointHealth }) => Promise<void>;
    errors: ContainedErrors;
    logger: Logger;
  }) {
    this.#client = options.client;
    this.#attempts = options.attempts;
    this.#onFailing = options.onFailing;
    this.#reportNoteError = (error) => options.errors.report("store", error);
    this.#logger = options.logger;
  }

  /** One request, whatever the state of the endpoint. It is noted. */
  async attempt(stored: StoredEndpoint, webhook: Webhook): Promise<DeliveredAttempt> {
    const sent = this.send(stored, webhook);
    return this.ended(stored, webhook, sent, await sent.result);
  }

  /** Begins it. The caller passes its result to {@link ended}. */
  send({ endpoint }: StoredEndpoint, webhook: Webhook): SentAttempt {
    const now = new Date();
    const { target, headers, keysAt } = requestParts(endpoint);
    const body = this.#bytesOf(webhook.body);
    const signed = signWebhook(webhook.id, body, keysAt(now.getTime()), now);
    const all = headers.slice();
    all.push("webhook-id", signed["webhook-id"], "webhook-timestamp", signed["webhook-timestamp"]);
    all.push("webhook-signature", signed["webhook-signature"], "tidegate-attempt", String(webhook.attempt));
    all.push("tidegate-key", encodeHeader(webhook.key), "tidegate-sequence", webhook.sequence);
    const from = performance.now();
    return {
      at: now.getTime(),
      from,
      result: this.#client.send({ target, body, timeoutMs: endpoint.timeoutMs, headers: all }),
    };
  }

  /** Signed and sent as the same bytes. */
  #bytesOf(text: string): Buffer {
    if (this.#lastBody.text !== text) this.#lastBody = { text, bytes: Buffer.from(text) };
    return this.#lastBody.bytes;
  }

  /** Notes it. */
  ended(
    stored: StoredEndpoint,
    { id, attempt }: Webhook,
    { at, from }: SentAttempt,
    result: ExchangeResult,
  ): DeliveredAttempt {
    const ms = Math.round(performance.now() - from);
    const error = errorOf(result);
    if (result.kind === "unreachable") {
      this.#logger.info({ endpoint: stored.endpoint.id, reason: result.reason }, "an endpoint cannot be reached");
    }
    const delivered = error === undefined ? { result, ms } : { result, ms, error };
    try {
      this.#note(stored, { at, changeId: id, attempt }, delivered);
    } catch (noteError) {
      // A failure to note the attempt does not change its outcome.
      this.#reportNoteError(noteError);
    }
    return delivered;
  }

  #note(
    stored: StoredEndpoint,
    { at, changeId, attempt }: Pick<Attempt, "at" | "changeId" | "attempt">,
    { ms, result, error }: DeliveredAttempt,
  ): void {
    const { id } = stored.endpoint;
    const noted: Writable<Attempt> = { at, changeId, attempt, ms };
    if ("status" in result) noted.status = result.status;
    const answer = "body" in result ? beginning(result.body) : "";
    if (answer !== "") noted.answer = answer;
    if (error === undefined) this.#watch(this.#attempts.addSuccess(id, noted));
    else {
      const { status } = noted;
      this.#attempts
        .addFailure(id, { ...noted, error })
        .then(async (health) => this.#onFailing(stored, { ...(status !== undefined && { status }), health }))
        .catch(this.#reportNoteError);
    }
  }

  /** Many attempts share one promise. */
  #watch(noted: Promise<void>): void {
    if (this.#watched.has(noted)) return;
    this.#watched.add(noted);
    noted.catch(this.#reportNoteError);
  }
}

/** Undefined for a 2xx. */
function errorOf(result: ExchangeResult): string | undefined {
  if (result.kind === "unreachable" || result.kind === "unanswered") return result.reason;
  const { status } = result;
  return status >= 200 && status < 300 ? undefined : `the endpoint answered ${status}`;
}

/** The cut may fall within a character. */
function beginning(body: Buffer): string {
  if (body.length === 0) return "";
  return body.subarray(0, keptAnswerBytes).toString("utf8").toWellFormed();
}
