import { busy, type CallOutcome, refused } from "../../shared/services/answers.ts";
import type { ContainedErrors } from "../../shared/runtime/contained-errors.ts";
import type { Service } from "../../shared/runtime/lifecycle.ts";
import type { Logger } from "../../shared/runtime/logging.ts";
import { PacedLog } from "../../shared/runtime/paced-log.ts";
import { type GatewayProfile, type RelayAnswer, relayLine, type RelayQuestion } from "../../shared/protocol/relay.ts";
import { RelayLink } from "./relay-link.ts";
import type { RelayListener, RelayStream } from "./relay-stream.ts";
import { type Asker, RelayShares } from "./relay-shares.ts";

/** A question before it gets its id. */
export type Question = RelayQuestion extends infer Q ? (Q extends RelayQuestion ? Omit<Q, "id"> : never) : never;

/** A call has these in addition. */
export interface CallTarget {
  service: string;
  /** JSON text in one line. */
  data: string;
  dataBytes: number;
}

interface Pending {
  resolve: (result: CallOutcome) => void;
  question: Question;
  /** By `performance.now()`. */
  askedAt: number;
  timer: NodeJS.Timeout;
  asker: Asker;
  bytes: number;
  /** By `performance.now()`: the deadline of the question. */
  deadline: number;
  state: { kind: "waiting"; text: string } | { kind: "sent"; stream: RelayStream };
}

/** A question waits this long for the first open link. */
const maxUnsentMs = 2_000;
/** The private API answers by the deadline. After this grace it is not going to. */
const answerGraceMs = 1_000;

/** Questions from this gateway to the private API: one link per address, open links in turn. */
export class RelayClient implements Service {
  readonly #links: readonly RelayLink[];
  readonly #pending = new Map<number, Pending>();
  readonly #unsent = new Set<number>();
  readonly #shares: RelayShares;
  readonly #failures: PacedLog;
  #lastId = 0;
  #nextLink = 0;

  /** @param options.burst messages that a session may send at once. */
  constructor(options: {
    addresses: readonly string[];
    token: string;
    node: string;
    profile: GatewayProfile;
    burst: number;
    errors: ContainedErrors;
    logger: Logger;
  }) {
    const listener: RelayListener = {
      onAnswer: (answer, payload) => {
        const outcome = toOutcome(answer, payload);
        if (outcome) this.#settle(answer.id, outcome);
        else this.#fail(answer.id, "upstream_bad_response", unreadable);
      },
      onUnreadable: (id) => this.#fail(id, "upstream_bad_response", unreadable),
      onLost: (ids) => {
        for (const id of ids)
          this.#fail(id, "upstream_timeout", "the connection was lost; the call may have been made");
      },
    };
    const onOpen = (stream: RelayStream): void => this.#sendUnsent(stream);
    const { addresses, burst, ...others } = options;
    this.#shares = new RelayShares(burst);
    this.#failures = new PacedLog({ logger: options.logger, leftOutAt: "debug" });
    this.#links = addresses.map((address) => new RelayLink({ address, listener, onOpen, ...others }));
  }

  /** Private API addresses with an open link. */
  get openLinks(): number {
    return this.#links.filter((link) => link.current).length;
  }

  /** One has been open since the start. */
  get hasOpened(): boolean {
    return this.#links.some((link) => link.hasOpened);
  }

  /** Why private APIs refuse this gateway's token. */
  get refusals(): readonly string[] {
    return this.#links.flatMap(({ refusal }) => refusal ?? []);
  }

  get pendingCount(): number {
    return this.#pending.size;
  }

  async start(): Promise<void> {
    await Promise.all(this.#links.map((link) => link.start()));
  }

  async stop(): Promise<void> {
    for (const link of this.#links) link.stop();
    for (const id of this.#unsent) this.#fail(id, "upstream_unavailable", "the gateway is stopping");
  }

  /**
   * Sends the question once. Never rejects: the outcome is `upstream_unavailable` where the question was not sent,
   * `upstream_timeout` where it was and no answer came.
   */
  async ask(question: Question, call?: CallTarget): Promise<CallOutcome> {
    const { timeoutMs, ...head } = question;
    const headText = JSON.stringify(head);
    const bytes = Buffer.byteLength(headText) + (call?.dataBytes ?? 0);
    // A webhook counts as a call: a service that hangs must not keep clients from connecting.
    const kind = question.kind === "webhook" ? ("call" as const) : question.kind;
    const asker = { kind, service: call?.service, sessionId: question.identity.sessionId };
    const refusal = this.#shares.take(asker, bytes);
    if (refusal !== undefined) return this.#report(question, asker, 0, busy(refusal));
    const text = relayLine(headText, call?.data);
    const id = ++this.#lastId;
    return new Promise((resolve) => {
      const timer = setTimeout(() => this.#expire(id), Math.min(timeoutMs, maxUnsentMs));
      const askedAt = performance.now();
      const deadline = askedAt + timeoutMs;
      const state = { kind: "waiting", text } as const;
      const pending: Pending = { resolve, question, askedAt, timer, asker, bytes, deadline, state };
      this.#pending.set(id, pending);
      const stream = this.#nextStream();
      if (stream) this.#send(id, pending, stream);
      else this.#unsent.add(id);
    });
  }

  /** With its id, and the time left until its deadline. */
  #send(id: number, pending: Pending, stream: RelayStream): void {
    if (pending.state.kind !== "waiting") return;
    const timeoutMs = Math.max(1, Math.floor(pending.deadline - performance.now()));
    stream.ask(id, `{"id":${id},"timeoutMs":${timeoutMs},${pending.state.text.slice(1)}`);
    pending.state = { kind: "sent", stream };
    clearTimeout(pending.timer);
    pending.timer = setTimeout(() => this.#expire(id), timeoutMs + answerGraceMs);
  }

  #nextStream(): RelayStream | undefined {
    for (let tried = 0; tried < this.#links.length; tried++) {
      const stream = this.#links[this.#nextLink++ % this.#links.length]?.current;
      if (stream) return stream;
    }
    return undefined;
  }

  #sendUnsent(stream: RelayStream): void {
    for (const id of this.#unsent) {
      const pending = this.#pending.get(id);
      if (pending) this.#send(id, pending, stream);
    }
    this.#unsent.clear();
  }

  #expire(id: number): void {
    const { state, deadline = 0 } = this.#pending.get(id) ?? {};
    if (state?.kind !== "sent") {
      this.#fail(id, "upstream_unavailable", "no private API can be reached");
      return;
    }
    this.#fail(id, "upstream_timeout", "no answer in time; the call may have been made");
    // The private API answers by the deadline whatever the service does: a silent one hangs.
    state.stream.abandon(id, deadline);
  }

  /** The question got no answer of a service. */
  #fail(id: number, code: FailureCode, message: string): void {
    const pending = this.#pending.get(id);
    if (!pending) return;
    const { question, asker, askedAt } = pending;
    this.#settle(id, this.#report(question, asker, performance.now() - askedAt, refused(code, message)));
  }

  #report(question: Question, { service }: Asker, ms: number, failure: CallOutcome & { ok: false }): CallOutcome {
    const { kind, traceparent, eventId: requestId } = question;
    const event = "event" in question ? question.event : `tidegate.${kind}`;
    const [, trace] = traceparent.split("-");
    const { code, message: cause } = failure.error;
    const fields = { service, kind, event, requestId, trace, code, cause, ms: Math.round(ms) };
    this.#failures.warn(`${kind} ${code}`, fields, "a request did not reach its service");
    return { ...failure, error: { ...failure.error, ...(requestId !== undefined && { requestId }) } };
  }

  #settle(id: number, outcome: CallOutcome): void {
    const pending = this.#pending.get(id);
    if (!pending) return;
    this.#pending.delete(id);
    this.#unsent.delete(id);
    this.#shares.give(pending.asker, pending.bytes);
    clearTimeout(pending.timer);
    pending.resolve(outcome);
  }
}

type FailureCode = "upstream_unavailable" | "upstream_timeout" | "upstream_bad_response";

const unreadable = "the answer of the private API cannot be read";

/** Undefined: an answer without its data. */
function toOutcome(answer: RelayAnswer, payload: string | undefined): CallOutcome | undefined {
  if (!answer.ok) return { ok: false, error: answer.error, ...(payload !== undefined && { details: payload }) };
  return payload === undefined ? undefined : { ok: true, data: payload };
}
