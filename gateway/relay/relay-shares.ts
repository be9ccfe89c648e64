/** Bounds the questions under way: in total, per kind, per service and per session. Pure. */
import type { RelayQuestion } from "../../shared/protocol/relay.ts";

interface Amount {
  readonly questions: number;
  readonly bytes: number;
}

/** All questions that wait for an answer. */
const maxOfNode: Amount = { questions: 20_000, bytes: 64 * 1024 * 1024 };
/** Calls leave an eighth for the hooks, so that clients can connect and subscribe while calls hang. */
const maxOfCalls = part(maxOfNode, 14 / 16);
/** Clients call the subscribe hook at will: it leaves half of that eighth for the connect hook. */
const maxOfCallsAndSubscribes = part(maxOfNode, 15 / 16);
/** Calls of one service, or questions of one hook. */
const maxOfService = part(maxOfCalls, 1 / 2);
/** Allows 200 subscribes at once with the largest claims, or 31 calls of the largest size. */
const maxBytesOfSession = 2 * 1024 * 1024;
/** The messages that a session may send in ten seconds by default, or its burst where that is larger. */
const minQuestionsOfSession = 500;
/** Memory of a question besides its text. */
const questionBytes = 512;

/** The origin of a question. */
export interface Asker {
  readonly kind: Exclude<RelayQuestion["kind"], "webhook">;
  /** Of a call. Each hook has one service. */
  readonly service: string | undefined;
  readonly sessionId: string;
}

export class RelayShares {
  /** The shares that each kind of question counts against. */
  readonly #common: Record<Asker["kind"], readonly Share[]>;
  readonly #hooks = { connect: new Share(maxOfService), subscribe: new Share(maxOfService) };
  /** Of every service called so far; rules name few. */
  readonly #services = new Map<string, Share>();
  /** Of sessions with a question under way. */
  readonly #sessions = new Map<string, Share>();
  readonly #maxOfSession: Amount;

  /** @param burst messages that a session may send at once. */
  constructor(burst: number) {
    this.#maxOfSession = { questions: Math.max(minQuestionsOfSession, burst), bytes: maxBytesOfSession };
    const node = new Share(maxOfNode);
    const callsAndSubscribes = new Share(maxOfCallsAndSubscribes);
    const calls = new Share(maxOfCalls);
    this.#common = {
      connect: [node],
      subscribe: [node, callsAndSubscribes],
      call: [node, callsAndSubscribes, calls],
    };
  }

  /**
   * @param textBytes of the question.
   * @returns why the question is refused; undefined: it may be sent, and the caller MUST call {@link give} afterwards.
   */
  take(asker: Asker, textBytes: number): string | undefined {
    const bytes = questionBytes + textBytes;
    const session = this.#sessions.get(asker.sessionId) ?? new Share(this.#maxOfSession);
    if (!session.fits(bytes)) return "too many calls of this session are under way";
    const service = this.#serviceShare(asker);
    if (!service.fits(bytes)) return `too many calls of ${asker.service ?? `the ${asker.kind} hook`} are under way`;
    const common = this.#common[asker.kind];
    for (const share of common) if (!share.fits(bytes)) return "too many calls are under way";
    for (const share of common) share.count(1, bytes);
    service.count(1, bytes);
    session.count(1, bytes);
    this.#sessions.set(asker.sessionId, session);
    return undefined;
  }

  give(asker: Asker, textBytes: number): void {
    const bytes = questionBytes + textBytes;
    for (const share of this.#common[asker.kind]) share.count(-1, -bytes);
    this.#serviceShare(asker).count(-1, -bytes);
    const session = this.#sessions.get(asker.sessionId);
    session?.count(-1, -bytes);
    if (session?.isUnused) this.#sessions.delete(asker.sessionId);
  }

  #serviceShare({ kind, service = "" }: Asker): Share {
    if (kind !== "call") return this.#hooks[kind];
    let share = this.#services.get(service);
    if (!share) {
      share = new Share(maxOfService);
      this.#services.set(service, share);
    }
    return share;
  }
}

class Share {
  readonly #max: Amount;
  #questions = 0;
  #bytes = 0;

  constructor(max: Amount) {
    this.#max = max;
  }

  get isUnused(): boolean {
    return this.#questions === 0;
  }

  fits(bytes: number): boolean {
    return this.#questions < this.#max.questions && this.#bytes + bytes <= this.#max.bytes;
  }

  count(questions: 1 | -1, bytes: number): void {
    this.#questions += questions;
    this.#bytes += bytes;
  }
}

function part({ questions, bytes }: Amount, of: number): Amount {
  return { questions: questions * of, bytes: bytes * of };
}
