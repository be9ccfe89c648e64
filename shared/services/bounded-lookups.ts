/**
 * Resolves names that strangers chose. The system's resolver has few threads, shared with files and compression, and a name server that
 * does not answer keeps one for up to half a minute: such names wait for each other, and no others for them. Names that were quick before may
 * keep all threads: others that were quick use their last addresses then.
 */
import type { LookupFunction } from "node:net";

/** `unknown`: never looked up. `slow`: the last lookup took long. */
type Pace = "prompt" | "unknown" | "slow";

const slowAfterMs = 500;
/** Names that are remembered: more than there are endpoints. */
const maxKnown = 25_000;
/** Addresses of a name; an answer with more is not remembered. */
const maxAddresses = 8;
/** Last addresses that are older are not used. */
const maxAnswerAgeMs = 600_000;
/** Of the process's four threads lookups have three: slow names one, together with unknown ones two. */
const most = { all: 3, doubtful: 2, slow: 1 };

type Callback = Parameters<LookupFunction>[2];
type Answer = Parameters<Callback>;

interface Lookup {
  /** The name and what is asked of it. */
  readonly key: string;
  readonly hostname: string;
  readonly options: Parameters<LookupFunction>[1];
  readonly pace: Pace;
  readonly callbacks: Callback[];
  /** Ends its wait for a thread. */
  timer?: NodeJS.Timeout;
}

/** What the last lookup of a name has shown. */
interface Known {
  readonly pace: Exclude<Pace, "unknown">;
  /** Undefined where it failed, was slow, or has too many addresses. */
  readonly answer: Answer | undefined;
  readonly answeredAt: number;
}

export class BoundedLookups {
  readonly #resolve: LookupFunction;
  readonly #maxWaitMs: number;
  /** By key, under way or waiting: what is asked for again meanwhile gets the same answer. */
  readonly #asked = new Map<string, Lookup>();
  /** Oldest first. */
  readonly #waiting: Readonly<Record<Pace, Set<Lookup>>> = { prompt: new Set(), unknown: new Set(), slow: new Set() };
  readonly #underWay: Record<Pace, number> = { prompt: 0, unknown: 0, slow: 0 };
  /** By key, the one that was looked up least recently first. */
  readonly #known = new Map<string, Known>();

  /** @param options.maxWaitMs for a thread: the connection has been given up by then */
  constructor(options: { resolve: LookupFunction; maxWaitMs: number }) {
    this.#resolve = options.resolve;
    this.#maxWaitMs = options.maxWaitMs;
  }

  /** As `dns.lookup`. */
  readonly lookup: LookupFunction = (hostname, options, callback) => {
    const key = `${hostname} ${options.family ?? 0} ${options.hints ?? 0} ${options.all ?? false}`;
    const asked = this.#asked.get(key);
    if (asked) {
      asked.callbacks.push(callback);
      return;
    }
    const pace = this.#known.get(key)?.pace ?? "unknown";
    const lookup: Lookup = { key, hostname, options, pace, callbacks: [callback] };
    this.#asked.set(key, lookup);
    this.#waiting[pace].add(lookup);
    this.#beginNext();
    if (this.#waiting[pace].has(lookup)) this.#boundWait(lookup);
  };

  #boundWait(lookup: Lookup): void {
    const last = this.#lastAnswer(lookup.key);
    const end = (): void => this.#settle(lookup, last ?? noThread());
    lookup.timer = setTimeout(end, last ? slowAfterMs : this.#maxWaitMs).unref();
  }

  #lastAnswer(key: string): Answer | undefined {
    const known = this.#known.get(key);
    return known && performance.now() - known.answeredAt < maxAnswerAgeMs ? known.answer : undefined;
  }

  #beginNext(): void {
    for (const waiting of [this.#waiting.prompt, this.#waiting.unknown, this.#waiting.slow]) {
      for (const lookup of waiting) {
        if (!this.#hasThread(lookup.pace)) break;
        this.#begin(lookup);
      }
    }
  }

  #hasThread(pace: Pace): boolean {
    const { prompt, unknown, slow } = this.#underWay;
    if (prompt + unknown + slow >= most.all) return false;
    if (pace === "prompt") return true;
    return unknown + slow < most.doubtful && (pace === "unknown" || slow < most.slow);
  }

  #begin(lookup: Lookup): void {
    const { key, hostname, options, pace } = lookup;
    const from = performance.now();
    clearTimeout(lookup.timer);
    this.#waiting[pace].delete(lookup);
    this.#underWay[pace]++;
    this.#resolve(hostname, options, (...answer) => {
      this.#underWay[pace]--;
      this.#remember(key, answer, performance.now() - from);
      this.#settle(lookup, answer);
      this.#beginNext();
    });
  }

  #remember(key: string, answer: Answer, tookMs: number): void {
    const [error, found] = answer;
    const isQuick = tookMs < slowAfterMs;
    const isKept = isQuick && !error && (!Array.isArray(found) || found.length <= maxAddresses);
    this.#known.delete(key);
    this.#known.set(key, {
      pace: isQuick ? "prompt" : "slow",
      answer: isKept ? answer : undefined,
      answeredAt: performance.now(),
    });
    const [oldest] = this.#known.keys();
    if (this.#known.size > maxKnown && oldest !== undefined) this.#known.delete(oldest);
  }

  #settle(lookup: Lookup, answer: Answer): void {
    clearTimeout(lookup.timer);
    this.#waiting[lookup.pace].delete(lookup);
    this.#asked.delete(lookup.key);
    for (const callback of lookup.callbacks) callback(...answer);
  }
}

function noThread(): Answer {
  return [Object.assign(new Error("too many names take long to look up"), { code: "EAI_AGAIN" }), ""];
}
