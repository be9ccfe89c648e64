import type { CallOutcome } from "../../shared/http/answers.ts";
import type { Service } from "../../shared/lifecycle.ts";
import type { Logger } from "../../shared/logging.ts";
import { requestCodes, type WireError } from "../../shared/protocol/codes.ts";
import type { RelayAnswer, RelayQuestion } from "../../shared/protocol/relay.ts";
import { RelayLink } from "./relay-link.ts";

/** A question without its number; `data` of a call is given as JSON text. */
export type Question = RelayQuestion extends infer Q
  ? Q extends RelayQuestion
    ? Omit<Q, "id" | "data">
    : never
  : never;

interface Pending {
  resolve: (result: CallOutcome) => void;
  timer: NodeJS.Timeout;
  bytes: number;
  /** By `performance.now()`: the deadline of the question. */
  deadline: number;
  state: { kind: "waiting"; question: Question; data: string | undefined } | { kind: "sent"; link: RelayLink };
}

/** Questions without an answer, over all links; past either bound new ones are refused. */
const maxPending = 20_000;
const maxPendingBytes = 64 * 1024 * 1024;
/** Counted for a question besides its data. */
const questionBytes = 512;
/** How long a question waits for a private API to be there at all. */
const maxUnsentMs = 2_000;
/** The private API gives up by itself at the deadline; past this it has not. */
const answerGraceMs = 1_000;

/** The gateway's way to the private API: one link for each address, questions go to the open ones in turn. */
export class RelayClient implements Service {
  readonly #links: readonly RelayLink[];
  readonly #pending = new Map<number, Pending>();
  readonly #unsent = new Set<number>();
  #pendingBytes = 0;
  #lastId = 0;
  #nextLink = 0;

  constructor(options: { addresses: readonly string[]; token: string; node: string; logger: Logger }) {
    const listener = {
      onOpen: (link: RelayLink) => this.#sendUnsent(link),
      onAnswer: (answer: RelayAnswer) => this.#settle(answer.id, answer),
      onLost: (ids: readonly number[]) => {
        for (const id of ids)
          this.#fail(id, "upstream_timeout", "the connection was lost, the call may have been made");
      },
    };
    const { addresses, token, node, logger } = options;
    this.#links = addresses.map((address) => new RelayLink({ address, token, node, listener, logger }));
  }

  /** Private API addresses that can be asked. */
  get openLinks(): number {
    return this.#links.filter((link) => link.isOpen).length;
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
   * Asks once. Never rejects: `upstream_unavailable` where it was not sent, `upstream_timeout` where it was and no
   * answer came.
   * @param data JSON text, for a call.
   */
  async ask(question: Question, data?: string): Promise<CallOutcome> {
    const id = ++this.#lastId;
    const bytes = questionBytes + (data?.length ?? 0);
    if (this.#pending.size >= maxPending || this.#pendingBytes + bytes > maxPendingBytes) {
      return { ok: false, error: failure("upstream_unavailable", "too many calls are under way") };
    }
    return new Promise((resolve) => {
      const timer = setTimeout(() => this.#expire(id), Math.min(question.timeoutMs, maxUnsentMs));
      const deadline = performance.now() + question.timeoutMs;
      const pending: Pending = { resolve, timer, bytes, deadline, state: { kind: "waiting", question, data } };
      this.#pending.set(id, pending);
      this.#pendingBytes += bytes;
      const link = this.#openLink();
      if (link) this.#send(id, pending, link);
      else this.#unsent.add(id);
    });
  }

  /** With the time that is left of its deadline. */
  #send(id: number, pending: Pending, link: RelayLink): void {
    if (pending.state.kind !== "waiting") return;
    const { question, data } = pending.state;
    const timeoutMs = Math.max(1, Math.floor(pending.deadline - performance.now()));
    const head = JSON.stringify({ id, ...question, timeoutMs });
    link.ask(id, data === undefined ? head : `${head.slice(0, -1)},"data":${data}}`);
    pending.state = { kind: "sent", link };
    clearTimeout(pending.timer);
    pending.timer = setTimeout(() => this.#expire(id), timeoutMs + answerGraceMs);
  }

  #openLink(): RelayLink | undefined {
    for (let tried = 0; tried < this.#links.length; tried++) {
      const link = this.#links[this.#nextLink++ % this.#links.length];
      if (link?.isOpen) return link;
    }
    return undefined;
  }

  #sendUnsent(link: RelayLink): void {
    for (const id of this.#unsent) {
      const pending = this.#pending.get(id);
      if (pending) this.#send(id, pending, link);
    }
    this.#unsent.clear();
  }

  #expire(id: number): void {
    const state = this.#pending.get(id)?.state;
    if (state?.kind !== "sent") {
      this.#fail(id, "upstream_unavailable", "no private API can be reached");
      return;
    }
    this.#fail(id, "upstream_timeout", "no answer in time, the call may have been made");
    // The private API answers by the deadline whatever the service does: who is silent then hangs.
    state.link.abandon(id);
  }

  #fail(id: number, code: "upstream_unavailable" | "upstream_timeout", message: string): void {
    this.#settle(id, { ok: false, error: failure(code, message) });
  }

  #settle(id: number, result: CallOutcome): void {
    const pending = this.#pending.get(id);
    if (!pending) return;
    this.#pending.delete(id);
    this.#unsent.delete(id);
    this.#pendingBytes -= pending.bytes;
    clearTimeout(pending.timer);
    pending.resolve(result.ok ? { ok: true, data: result.data } : { ok: false, error: result.error });
  }
}

function failure(code: "upstream_unavailable" | "upstream_timeout", message: string): WireError {
  return { code, message, retryable: requestCodes[code].retryable };
}
