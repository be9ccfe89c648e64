import type { HookName } from "../rules/rules.ts";

export type RequestKind = "call" | "queued" | HookName;

/** Bounds on requests of one kind that wait for a place at one service, and on their bodies. */
const maxWaiting = 1_000;
const maxWaitingBytes = 8 * 1024 * 1024;

interface Waiting {
  bytes: number;
  admit: () => void;
}

interface Kind {
  inFlight: number;
  /** In order of arrival. */
  readonly waiting: Set<Waiting>;
  waitingBytes: number;
}

/**
 * Bounds the requests to one service: `maxInFlight` at a time. Further requests wait, bounded in number, bytes and time.
 * Hanging calls must not keep clients from connecting. So each hook of the service has a reserve of a sixteenth of the places, at
 * least one. Calls use neither reserve; the subscribe hook does not use that of the connect hook. Hooks are admitted before waiting
 * calls, but a sixteenth of the places stays for calls. Deliveries of queues come last, and keep a sixteenth, too. With too few
 * places for reserves, only the order remains.
 */
export class ServicePlaces {
  #maxInFlight = 0;
  /** Of calls, and of deliveries of queues. */
  #minCalls = 0;
  #maxCalls = 0;
  #maxCallsAndSubscribes = 0;
  readonly #kinds: Record<RequestKind, Kind> = {
    call: newKind(),
    queued: newKind(),
    subscribe: newKind(),
    connect: newKind(),
  };

  constructor(bounds: { maxInFlight: number; hooks: readonly HookName[] }) {
    this.setBounds(bounds);
  }

  /** Requests under way count on. */
  setBounds({ maxInFlight, hooks }: { maxInFlight: number; hooks: readonly HookName[] }): void {
    this.#maxInFlight = maxInFlight;
    const reserve = Math.max(1, Math.floor(maxInFlight / 16));
    this.#minCalls = Math.min(reserve, maxInFlight - 1);
    this.#maxCalls = Math.max(1, maxInFlight - reserve * hooks.length);
    this.#maxCallsAndSubscribes = Math.max(1, maxInFlight - (hooks.includes("connect") ? reserve : 0));
    this.#admit();
  }

  /**
   * @returns `admitted`: the caller must call {@link release}. `late`: no place within `waitMs`. `full`: too many requests wait.
   */
  async acquire(kind: RequestKind, bytes: number, waitMs: number): Promise<"admitted" | "late" | "full"> {
    const own = this.#kinds[kind];
    if (own.waiting.size === 0 && this.#hasPlace(kind)) {
      own.inFlight++;
      return "admitted";
    }
    if (own.waiting.size >= maxWaiting || own.waitingBytes + bytes > maxWaitingBytes) return "full";
    return new Promise((resolve) => {
      const waiting: Waiting = {
        bytes,
        admit: () => {
          clearTimeout(timer);
          resolve("admitted");
        },
      };
      const timer = setTimeout(() => {
        own.waiting.delete(waiting);
        own.waitingBytes -= bytes;
        resolve("late");
      }, waitMs);
      own.waiting.add(waiting);
      own.waitingBytes += bytes;
    });
  }

  release(kind: RequestKind): void {
    this.#kinds[kind].inFlight--;
    this.#admit();
  }

  #admit(): void {
    for (let next = this.#next(); next; next = this.#next()) {
      const own = this.#kinds[next];
      const [first] = own.waiting;
      if (!first) return;
      own.waiting.delete(first);
      own.waitingBytes -= first.bytes;
      own.inFlight++;
      first.admit();
    }
  }

  /** The kind to admit next: one that waits and has a free place. */
  #next(): RequestKind | undefined {
    const { call, queued, subscribe, connect } = this.#kinds;
    if (call.waiting.size + queued.waiting.size + subscribe.waiting.size + connect.waiting.size === 0) return undefined;
    const calls: readonly RequestKind[] = queued.inFlight < this.#minCalls ? ["queued", "call"] : ["call", "queued"];
    const order: readonly RequestKind[] =
      call.inFlight < this.#minCalls ? ["call", "connect", "subscribe", "queued"] : ["connect", "subscribe", ...calls];
    return order.find((kind) => this.#kinds[kind].waiting.size > 0 && this.#hasPlace(kind));
  }

  #hasPlace(kind: RequestKind): boolean {
    const { call, queued, subscribe, connect } = this.#kinds;
    const calls = call.inFlight + queued.inFlight;
    const callsAndSubscribes = calls + subscribe.inFlight;
    if (callsAndSubscribes + connect.inFlight >= this.#maxInFlight) return false;
    if (kind === "connect") return true;
    if (callsAndSubscribes >= this.#maxCallsAndSubscribes) return false;
    if (kind === "subscribe") return true;
    return (
      calls < this.#maxCalls && (kind === "call" || queued.inFlight < Math.max(1, this.#maxCalls - this.#minCalls))
    );
  }
}

function newKind(): Kind {
  return { inFlight: 0, waiting: new Set(), waitingBytes: 0 };
}
