/** How many questions may be under way, and whose. Pure. */
import type { RelayQuestion } from "../../shared/protocol/relay.ts";

interface Amount {
  readonly questions: number;
  readonly bytes: number;
}

/** All questions without an answer. */
const mostOfNode: Amount = { questions: 20_000, bytes: 64 * 1024 * 1024 };
/** Calls leave an eighth to the hooks, so that clients can connect and subscribe while calls hang. */
const mostOfCalls = part(mostOfNode, 14 / 16);
/** Clients ask the subscribe hook at will: it leaves half of that eighth to the connect hook. */
const mostOfCallsAndSubscribes = part(mostOfNode, 15 / 16);
/** Calls of one service, or questions of one hook. */
const mostOfService = part(mostOfCalls, 1 / 2);
/** 200 channels at once with the largest claims, or 31 calls of the largest size. */
const mostBytesOfSession = 2 * 1024 * 1024;
/** As many messages as it may send in ten seconds by default, or its burst where that is more. */
const minQuestionsOfSession = 500;
/** What a question takes besides its text. */
const questionBytes = 512;

/** The origin of a question. */
export interface Asker {
  readonly kind: RelayQuestion["kind"];
  /** Of a call. A hook has one service. */
  readonly service: string | undefined;
  readonly sessionId: string;
}

export class RelayShares {
  /** Shares that all questions of a kind count for. */
  readonly #common: Record<Asker["kind"], readonly Share[]>;
  readonly #hooks = { connect: new Share(mostOfService), subscribe: new Share(mostOfService) };
  /** Of every service that was called; rules name few. */
  readonly #services = new Map<string, Share>();
  /** Of sessions with a question under way. */
  readonly #sessions = new Map<string, Share>();
  readonly #mostOfSession: Amount;

  /** @param burst messages that a session may send at once. */
  constructor(burst: number) {
    this.#mostOfSession = { questions: Math.max(minQuestionsOfSession, burst), bytes: mostBytesOfSession };
    const node = new Share(mostOfNode);
    const callsAndSubscribes = new Share(mostOfCallsAndSubscribes);
    const calls = new Share(mostOfCalls);
    this.#common = {
      connect: [node],
      subscribe: [node, callsAndSubscribes],
      call: [node, callsAndSubscribes, calls],
    };
  }

  /**
   * @param textBytes of the question.
   * @returns why there is no room; undefined: there is, and the caller calls {@link give} afterwards.
   */
  take(asker: Asker, textBytes: number): string | undefined {
    const bytes = questionBytes + textBytes;
    const session = this.#sessions.get(asker.sessionId) ?? new Share(this.#mostOfSession);
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
      share = new Share(mostOfService);
      this.#services.set(service, share);
    }
    return share;
  }
}

class Share {
  readonly #most: Amount;
  #questions = 0;
  #bytes = 0;

  constructor(most: Amount) {
    this.#most = most;
  }

  get isUnused(): boolean {
    return this.#questions === 0;
  }

  fits(bytes: number): boolean {
    return this.#questions < this.#most.questions && this.#bytes + bytes <= this.#most.bytes;
  }

  count(questions: 1 | -1, bytes: number): void {
    this.#questions += questions;
    this.#bytes += bytes;
  }
}

function part({ questions, bytes }: Amount, of: number): Amount {
  return { questions: questions * of, bytes: bytes * of };
}
