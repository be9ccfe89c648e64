/** Makes a live endpoint a shadow again, at an exact position: everything up to it was sent, and another system sends what follows. */
import { randomBytes } from "node:crypto";
import { setTimeout as pause } from "node:timers/promises";
import { type ChangeLog, placeBeforeAll } from "../../shared/changes/contract.ts";
import type { EndpointStore, StoredEndpoint } from "../../shared/endpoints/contract.ts";
import { endpointService } from "../../shared/endpoints/endpoint.ts";
import type { QueueStore } from "../../shared/queues/contract.ts";
import { everySlot } from "../../shared/redis/slots.ts";
import { TidegateError } from "../../shared/runtime/errors.ts";
import type { Service } from "../../shared/runtime/lifecycle.ts";
import { formatCursor } from "../changes/pull-cursor.ts";
import { stopName } from "./behind.ts";
import { changeEndpoint, readEndpoint } from "./change-endpoint.ts";
import { ownPlaces, sentUntil } from "./ledger.ts";
import type { EndpointMoves } from "./move-endpoint.ts";

/** How long a call waits for the readers, and for what is queued to be delivered. */
const defaultWaitMs = 20_000;
/** Pause between two checks of all places: begins at `first`, and doubles up to `last`. */
const checkEveryMs = { first: 50, last: 500 };
/** Calls of one process. */
const maxCalls = 32;
const stopIdBytes = 9;

export class EndpointStops implements Service {
  readonly #store: EndpointStore;
  readonly #log: ChangeLog;
  readonly #queues: Pick<QueueStore, "waitingOfSource">;
  readonly #moves: EndpointMoves;
  readonly #waitMs: number;
  #calls = 0;
  #isEnding = false;

  /** @param options.waitMs shorter in tests */
  constructor(options: {
    store: EndpointStore;
    log: ChangeLog;
    queues: Pick<QueueStore, "waitingOfSource">;
    moves: EndpointMoves;
    waitMs?: number;
  }) {
    this.#store = options.store;
    this.#log = options.log;
    this.#queues = options.queues;
    this.#moves = options.moves;
    this.#waitMs = options.waitMs ?? defaultWaitMs;
  }

  async start(): Promise<void> {}

  /** Answers the calls that wait: their endpoints stay stopping. */
  async stop(): Promise<void> {
    this.#isEnding = true;
  }

  /**
   * A shadow stays as it is.
   * @param options.mayBeHalted also stops a paused or disabled endpoint, provided that nothing is queued for it
   * @throws TidegateError `conflict` if it is paused or disabled, or something queued is not delivered in time: a live endpoint stays
   * stopping then; `rate_limited`
   */
  async toShadow(id: string, { mayBeHalted = false } = {}): Promise<StoredEndpoint> {
    const stored = await readEndpoint(this.#store, id);
    if (stored.endpoint.mode === "shadow") return stored;
    if (this.#calls >= maxCalls) {
      throw new TidegateError("rate_limited", `${maxCalls} calls that stop endpoints are under way already`);
    }
    this.#calls++;
    try {
      return await this.#toShadow(id, mayBeHalted);
    } finally {
      this.#calls--;
    }
  }

  async #toShadow(id: string, mayBeHalted: boolean): Promise<StoredEndpoint> {
    let stored = await changeEndpoint(this.#store, id, ({ endpoint }) => {
      if (endpoint.mode === "shadow") return undefined;
      if (endpoint.halted && !mayBeHalted) throw halted(endpoint.halted);
      return endpoint.stopping === undefined
        ? { ...endpoint, stopping: randomBytes(stopIdBytes).toString("base64url") }
        : undefined;
    });
    const name = stopName(stored);
    if (name === undefined) return asStopped(stored);
    const deadline = performance.now() + this.#waitMs;
    for (let pauseMs = checkEveryMs.first; ; pauseMs = Math.min(pauseMs * 2, checkEveryMs.last)) {
      const places = await this.#log.cursors(everySlot, name);
      // Counted after the places were read: nothing more is queued once every slot has its place.
      const waiting = await this.#queues.waitingOfSource(endpointService(id), "every");
      const isRead = places.length === everySlot.length;
      if (isRead && waiting === 0) return this.#end(id, name);
      // What is queued for a halted endpoint is not delivered before the endpoint is resumed, and that ends the stop.
      if (isRead && mayBeHalted && stored.endpoint.halted) return this.#abandon(id, name, stored.endpoint.halted);
      if (this.#isEnding || performance.now() > deadline) {
        throw stillStopping(everySlot.length - places.length, waiting);
      }
      await pause(pauseMs);
      stored = await readEndpoint(this.#store, id);
      // Another call has ended the stop.
      if (stopName(stored) !== name) return asStopped(stored);
    }
  }

  /**
   * The position of a shadow.
   * @returns `after`: for `cursor` of `GET /v1/changes`, and for `after` of go-live. `sentUntil`: Unix ms before which everything was sent
   */
  async positionOf(stored: StoredEndpoint): Promise<{ after: string; sentUntil: number }> {
    const places = await ownPlaces(this.#log, stored);
    const after = formatCursor({
      since: stored.startsAt,
      places: new Map([...places].filter(([, place]) => place !== placeBeforeAll)),
      turn: 0,
    });
    return { after, sentUntil: await sentUntil(this.#log, stored, places) };
  }

  async #end(id: string, name: string): Promise<StoredEndpoint> {
    const shadow = await this.#moves.move(id, async (stored) => {
      const { stopping: _stopping, ...endpoint } = stored.endpoint;
      if (stopName(stored) !== name) throw cancelled();
      const places = new Map((await this.#log.cursors(everySlot, name)).map(({ slot, place }) => [slot, place]));
      // A Redis has lost its latest writes meanwhile: the reader of the slot stores its place again, under another lease.
      if (places.size < everySlot.length) throw stillStopping(everySlot.length - places.size, 0);
      return { endpoint: { ...endpoint, mode: "shadow" }, move: { startsAt: "same" }, places };
    });
    await this.#log.saveCursors(everySlot.map((slot) => ({ slot, name, place: undefined })));
    return shadow;
  }

  /** Ends the stop without making the endpoint a shadow. The cursor sweep removes the places of the stop. @throws TidegateError `conflict` */
  async #abandon(id: string, name: string, why: string): Promise<never> {
    await changeEndpoint(this.#store, id, (stored) => {
      const { stopping: _stopping, ...endpoint } = stored.endpoint;
      return stopName(stored) === name && endpoint.halted ? endpoint : undefined;
    });
    throw halted(why);
  }
}

/** @returns the endpoint, which is a shadow. @throws TidegateError `conflict` where something may be queued for it again */
export function asStopped(stored: StoredEndpoint): StoredEndpoint {
  if (stored.endpoint.mode === "live") throw cancelled();
  return stored;
}

function halted(why: string): TidegateError {
  return new TidegateError("conflict", `the endpoint is ${why}: resume it, so that what is queued is sent`);
}

function cancelled(): TidegateError {
  return new TidegateError("conflict", "another call made the endpoint live again meanwhile");
}

function stillStopping(unreadSlots: number, waiting: number): TidegateError {
  const what =
    unreadSlots > 0
      ? `the readers of ${unreadSlots} slots have not stopped yet`
      : `${waiting} changes that are queued for it are not delivered yet`;
  return new TidegateError("conflict", `${what}: call again, or resume it to stay live`);
}
