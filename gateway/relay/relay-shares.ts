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
/** All channels at once and a burst of messages, or about sixteen calls of the largest size. */
const mostOfSession: Amount = { questions: 512, bytes: 1024 * 1024 };
/** What a question takes besides its text. */
const questionBytes = 512;

/** Whose question it is. */
export interface Asker {
  readonly kind: RelayQuestion["kind"];
  /** Of a call. */
  readonly service: string | undefined;
  readonly sessionId: string;
}

export class RelayShares {
  /** Those that several services and sessions have together, by the kind of question. */
  readonly #common: Record<Asker["kind"], readonly Share[]>;
  /** Those of whom anything is under way. */
  readonly #services = new Map<string, Share>();
  readonly #sessions = new Map<string, Share>();

  constructor() {
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
    const service = this.#services.get(serviceKey(asker)) ?? new Share(mostOfService);
    const session = this.#sessions.get(asker.sessionId) ?? new Share(mostOfSession);
    if (!session.fits(bytes)) return "too many calls of this session are under way";
    if (!service.fits(bytes)) return `too many calls of ${asker.service ?? `the ${asker.kind} hook`} are under way`;
    const shares = this.#common[asker.kind];
    if (!shares.every((share) => share.fits(bytes))) return "too many calls are under way";
    for (const share of shares) share.count(1, bytes);
    service.count(1, bytes);
    session.count(1, bytes);
    this.#services.set(serviceKey(asker), service);
    this.#sessions.set(asker.sessionId, session);
    return undefined;
  }

  give(asker: Asker, textBytes: number): void {
    const bytes = questionBytes + textBytes;
    for (const share of this.#common[asker.kind]) share.count(-1, -bytes);
    giveBack(this.#services, serviceKey(asker), bytes);
    giveBack(this.#sessions, asker.sessionId, bytes);
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

function giveBack(shares: Map<string, Share>, key: string, bytes: number): void {
  const share = shares.get(key);
  share?.count(-1, -bytes);
  if (share?.isUnused) shares.delete(key);
}

/** A hook has one service. */
function serviceKey({ kind, service }: Asker): string {
  return service === undefined ? kind : `${kind} ${service}`;
}

function part({ questions, bytes }: Amount, of: number): Amount {
  return { questions: questions * of, bytes: bytes * of };
}
