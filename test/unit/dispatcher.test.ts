/** Dispatchers over a store in memory, with services that are functions. */
import { setImmediate as nextTurn } from "node:timers/promises";
import { afterEach, describe, expect, test, vi } from "vitest";
import type { Delivery } from "../../private-api/dispatch/delivery.ts";
import type { DispatchOutcome } from "../../private-api/dispatch/deliverer.ts";
import { Dispatcher } from "../../private-api/dispatch/dispatcher.ts";
import type { KnownService } from "../../private-api/dispatch/service-states.ts";
import { ServiceCircuits } from "../../private-api/upstream/service-circuits.ts";
import { Circuit } from "../../shared/services/circuit.ts";
import { Workers } from "../../private-api/dispatch/workers.ts";
import { endpointClass, endpointSource } from "../../shared/endpoints/endpoint.ts";
import {
  type ClaimReply,
  type ClaimRequest,
  type Enqueued,
  type Lease,
  leaseMs,
  type NewItem,
  type Settlement,
} from "../../shared/queues/contract.ts";
import { TidegateError } from "../../shared/runtime/errors.ts";
import { formatHead } from "../../shared/queues/item-head.ts";
import { slotOfQueue } from "../../shared/queues/keys.ts";
import { MemoryQueueStore } from "../../shared/queues/memory.ts";
import type { QueuePolicy } from "../../shared/rules/rules.ts";
import type { ServiceAnswer } from "../../shared/services/service-client.ts";
import { eventually } from "../support/eventually.ts";
import { quietErrors, quietLogger } from "../support/logger.ts";

type Answerer = (delivery: Delivery, service: string, isHeld: () => boolean) => ServiceAnswer | Promise<ServiceAnswer>;

const started: Dispatcher[] = [];
afterEach(async () => {
  vi.useRealTimers();
  vi.restoreAllMocks();
  await Promise.all(started.splice(0).map(async (dispatcher) => dispatcher.stop()));
});

const patient: QueuePolicy = { attempts: 3, minMs: 1, maxMs: 5, onFailure: "skip", batch: 1 };

async function startDispatcher(
  store: MemoryQueueStore,
  answer: Answerer,
  {
    policy = patient,
    total = 16,
    shares = { messages: 1 },
    maxInFlight = 64,
    isKnown = () => true,
    rate,
    endpoint,
    onFirstAttempt = () => undefined,
    stopMs = 5_000,
    only,
  }: {
    policy?: QueuePolicy;
    total?: number;
    shares?: Record<string, number>;
    maxInFlight?: number;
    isKnown?: () => boolean;
    rate?: KnownService["rate"];
    /** In place of every service, or of each by its name. */
    endpoint?: KnownService | ((name: string) => KnownService);
    onFirstAttempt?: (ageMs: number) => void;
    stopMs?: number;
    /** Classes of this process. */
    only?: readonly string[];
  } = {},
): Promise<{ dispatcher: Dispatcher; outcomes: DispatchOutcome[] }> {
  const outcomes: DispatchOutcome[] = [];
  const circuits = new ServiceCircuits();
  const classes = new Map(Object.entries(shares).map(([name, share]) => [name, { share }]));
  const dispatcher = new Dispatcher({
    store,
    workers: new Workers({ total, classes: () => classes, ...(only && { only: new Set(only) }) }),
    service: (name) =>
      (typeof endpoint === "function" ? endpoint(name) : endpoint) ??
      (isKnown()
        ? { maxInFlight, maxBatch: policy.batch, circuit: circuits.of({ name, url: "" }), ...(rate && { rate }) }
        : undefined),
    policy: () => policy,
    send: async (name, delivery, isHeld) =>
      circuits.guard({ name, url: "" }, { user: delivery.head.user, hasTime: true }, async () =>
        answer(delivery, name, isHeld),
      ),
    onOutcome: (_class, _service, outcome) => outcomes.push(outcome),
    onFirstAttempt,
    onStoreFailure: () => undefined,
    stopMs,
    errors: quietErrors,
    logger: quietLogger,
  });
  started.push(dispatcher);
  await dispatcher.start();
  return { dispatcher, outcomes };
}

async function enqueue(
  store: MemoryQueueStore,
  data: unknown,
  { key = "k", tenant = "", class: name = "messages", service = "documents", event = "doc.edit" } = {},
): Promise<void> {
  const about = { event, source: "/tidegate/socket", path: "/edits", at: Date.now(), traceparent: "00" };
  const head = formatHead({ id: String(data), ...about }, { user: "u", sessionId: "s", claims: {} });
  await store.enqueue({ queue: { service, tenant, key }, class: name, head, data: JSON.stringify(data) });
}

/** Its key is the data. */
function endpointItem(data: string, service: string): NewItem {
  const about = { event: "moved", source: endpointSource, path: "", at: Date.now(), traceparent: "00" };
  const head = formatHead({ id: data, ...about }, { user: "", sessionId: "", claims: {} });
  return { queue: { service, tenant: "", key: data }, class: endpointClass, head, data };
}

/** Claims from the slot of this key wait. @returns answers them */
function holdClaims(store: MemoryQueueStore, key: string): () => void {
  const { promise, resolve } = Promise.withResolvers<void>();
  const held = slotOfQueue({ service: "documents", tenant: "", key });
  const claim = store.claim.bind(store);
  store.claim = (requests) =>
    claim(requests).map(async (each, index) => {
      if (requests[index]?.slot === held) await promise;
      return each;
    });
  return resolve;
}

function answered(status: number, body = "", retryAfterMs?: number): ServiceAnswer {
  return { kind: "answered", status, body: Buffer.from(body), ...(retryAfterMs !== undefined && { retryAfterMs }) };
}

describe("dispatcher", () => {
  test("DISP-1: items of a key are delivered in order, one at a time, through retries", async () => {
    const store = new MemoryQueueStore();
    const arrived: string[] = [];
    let open = 0;
    await startDispatcher(store, async ({ body, attempt }) => {
      expect(open).toBe(0);
      open++;
      await new Promise(setImmediate);
      open--;
      arrived.push(`${body}#${attempt}`);
      return body === "2" && attempt !== 3 ? answered(500) : answered(204);
    });
    for (const data of [1, 2, 3]) await enqueue(store, data);
    await eventually(() => arrived.includes("3#1"));
    expect(arrived).toEqual(["1#1", "2#1", "2#2", "2#3", "3#1"]);
  });

  test("QUE-14: the age of an item at its first attempt goes by the clock of the store", async () => {
    const aheadMs = 3_600_000;
    class StoreAhead extends MemoryQueueStore {
      override claim(requests: readonly ClaimRequest[]): readonly Promise<ClaimReply>[] {
        return super.claim(requests).map(async (reply) => {
          const { more, claimed } = await reply;
          return { more, claimed: claimed.map((each) => ({ ...each, claimedAt: each.claimedAt + aheadMs })) };
        });
      }
    }
    const store = new StoreAhead();
    const agesMs: number[] = [];
    await startDispatcher(store, () => answered(204), { onFirstAttempt: (ageMs) => agesMs.push(ageMs) });
    await enqueue(store, 1);
    await eventually(() => agesMs.length === 1);
    expect(agesMs[0]).toBeGreaterThanOrEqual(aheadMs);
  });

  test("QFAIL-2: a dispatcher that wakes after its claim has ended sends nothing that another one has delivered", async () => {
    let frozenMs = 0;
    for (const clock of [performance, Date]) {
      const now = clock.now.bind(clock);
      vi.spyOn(clock, "now").mockImplementation(() => now() + frozenMs);
    }
    class FrozenCaller extends MemoryQueueStore {
      override claim(requests: readonly ClaimRequest[]): readonly Promise<ClaimReply>[] {
        return super.claim(requests).map(async (reply, at) => (await this.#freeze(requests[at])) ?? reply);
      }

      /** Before the caller reads the first reply with an item: another dispatcher delivers it. */
      async #freeze(request: ClaimRequest | undefined): Promise<undefined> {
        if (!request || frozenMs > 0) return;
        frozenMs = leaseMs + 1;
        await this.promote();
        const [again] = super.claim([{ ...request, attempt: "retry" }]);
        const [other] = (await again)?.claimed ?? [];
        expect(other && (await this.settle(other.lease, { kind: "done", done: 1 }))).toBe(true);
        await enqueue(this, 2);
      }
    }
    const store = new FrozenCaller();
    const arrived: string[] = [];
    const { outcomes } = await startDispatcher(store, ({ body }) => {
      arrived.push(body);
      return answered(204);
    });
    await enqueue(store, 1);
    await eventually(() => arrived.includes("2"));
    expect(arrived).toEqual(["2"]);
    await eventually(() => outcomes.length === 2);
    expect(outcomes.toSorted()).toEqual(["done", "stale"]);
  });

  test("QFAIL-2: an item that waits to be sent while its dispatcher is frozen is not held any more", async () => {
    let frozenMs = 0;
    const now = performance.now.bind(performance);
    vi.spyOn(performance, "now").mockImplementation(() => now() + frozenMs);
    const store = new MemoryQueueStore();
    const held: boolean[] = [];
    const { outcomes } = await startDispatcher(store, (_delivery, _service, isHeld) => {
      if (held.length > 0) return answered(204);
      held.push(isHeld());
      frozenMs += leaseMs + 1;
      held.push(isHeld());
      return { kind: "busy" };
    });
    await enqueue(store, 1);
    await eventually(() => outcomes.includes("done"));
    expect(held).toEqual([true, false]);
  });

  test("DISP-2: after the last attempt the item is a dead letter, and the next one is delivered", async () => {
    const store = new MemoryQueueStore();
    const arrived: string[] = [];
    const { outcomes } = await startDispatcher(store, ({ body }) => {
      arrived.push(body);
      return body === "1" ? answered(502) : answered(200);
    });
    await enqueue(store, 1);
    await enqueue(store, 2);
    await eventually(() => arrived.includes("2"));
    expect(arrived).toEqual(["1", "1", "1", "2"]);
    const [letter] = (await store.deadLetters({ limit: 9 })).letters;
    const failure: unknown = JSON.parse(letter?.failure ?? "");
    expect(failure).toMatchObject({ attempts: 3, lastError: { code: "upstream_failed", status: 502 } });
    expect(outcomes.filter((outcome) => outcome === "failed")).toHaveLength(1);
  });

  test("DISP-3: a 4xx fails at once; 408, 425 and 429 are tried again", async () => {
    const store = new MemoryQueueStore();
    const attempts = new Map<string, number>();
    await startDispatcher(store, ({ body }) => {
      attempts.set(body, (attempts.get(body) ?? 0) + 1);
      return answered(Number(body));
    });
    for (const status of [400, 404, 301, 408, 425, 429]) await enqueue(store, status, { key: String(status) });
    await eventually(async () => (await store.deadLetters({ limit: 9 })).letters.length === 6);
    expect(Object.fromEntries(attempts)).toEqual({ 301: 1, 400: 1, 404: 1, 408: 3, 425: 3, 429: 3 });
  });

  test("DISP-4: Retry-After is obeyed and uses up no attempt", async () => {
    const store = new MemoryQueueStore();
    const attempts: number[] = [];
    await startDispatcher(store, ({ attempt }) => {
      attempts.push(attempt);
      return attempts.length < 6 ? answered(attempts.length % 2 ? 429 : 503, "", 1) : answered(200);
    });
    await enqueue(store, 1);
    await eventually(() => attempts.length === 6);
    expect(new Set(attempts)).toEqual(new Set([1]));
  });

  test("DISP-5: while a service is down its circuit opens, and no item uses up its attempts", async () => {
    const store = new MemoryQueueStore();
    let down = true;
    const arrived = new Set<string>();
    const { outcomes } = await startDispatcher(
      store,
      ({ body }) => {
        if (down) return { kind: "unreachable", reason: "connection refused", fault: "service" };
        arrived.add(body);
        return answered(200);
      },
      { policy: { ...patient, attempts: 12 } },
    );
    for (let data = 0; data < 40; data++) await enqueue(store, data, { key: String(data) });
    // The circuit is open once a failure uses up no attempt.
    await eventually(() => outcomes.includes("postponed"));
    down = false;
    await eventually(() => arrived.size === 40);
    expect((await store.deadLetters({ limit: 1 })).letters).toEqual([]);
  });

  test("EP-4: what was claimed right before its endpoint was paused is sent right after it is resumed", async () => {
    const store = new MemoryQueueStore();
    let isPaused = false;
    const arrived: string[] = [];
    const { dispatcher, outcomes } = await startDispatcher(
      store,
      ({ body }) => {
        arrived.push(body);
        return answered(204);
      },
      { policy: { ...patient, minMs: 60_000, maxMs: 60_000 }, isKnown: () => !isPaused },
    );
    const { claim } = store;
    store.claim = (requests) => {
      isPaused = true;
      return claim.call(store, requests);
    };
    await enqueue(store, 1);
    await eventually(() => outcomes.includes("postponed"));
    store.claim = claim;
    isPaused = false;
    dispatcher.claimSoon();
    await eventually(() => arrived.length === 1);
  });

  test("DISP-12: a request that is not valid HTTP does not lower the number of requests at once", async () => {
    const store = new MemoryQueueStore();
    const held: (() => void)[] = [];
    const { outcomes } = await startDispatcher(store, async ({ body }) => {
      if (body === '"bad"') return { kind: "unreachable", reason: "the request is invalid", fault: "own" };
      await new Promise<void>((resolve) => held.push(resolve));
      return answered(204);
    });
    await enqueue(store, "bad");
    await eventually(() => outcomes.includes("failed"));
    for (let key = 0; key < 8; key++) await enqueue(store, key, { key: String(key) });
    await eventually(() => held.length === 8);
    for (const release of held) release();
  });

  test("DISP-6: a batch is an array; what the service did not accept comes again, alone at the head", async () => {
    const store = new MemoryQueueStore();
    const bodies: unknown[] = [];
    const ids: string[] = [];
    for (const data of [1, 2, 3, 4, 5]) await enqueue(store, data);
    await startDispatcher(
      store,
      ({ body, webhookId }) => {
        bodies.push(JSON.parse(body));
        ids.push(webhookId);
        return answered(200, bodies.length === 1 ? '{"done":1}' : "");
      },
      { policy: { ...patient, batch: 3 } },
    );
    await eventually(() => bodies.length === 3);
    expect(bodies).toEqual([[1, 2, 3], [2, 3, 4], [5]]);
    expect(new Set(ids).size).toBe(3);
  });

  test("ENQ-8: a batch ends before an item of another event", async () => {
    const store = new MemoryQueueStore();
    const bodies: string[] = [];
    for (const [data, event] of [
      [1, "doc.edit"],
      [2, "doc.edit"],
      [3, "doc.close"],
      [4, "doc.edit"],
    ] as const) {
      await enqueue(store, data, { event });
    }
    await startDispatcher(
      store,
      ({ body, head }) => {
        bodies.push(`${head.event} ${body}`);
        return answered(204);
      },
      { policy: { ...patient, batch: 3 } },
    );
    await eventually(() => bodies.length === 3);
    expect(bodies).toEqual(["doc.edit [1,2]", "doc.close [3]", "doc.edit [4]"]);
  });

  test("QUE-15: ready queues that a list left out are listed once nothing else is left to claim", async () => {
    // The next look at all of them by time never comes.
    vi.useFakeTimers({ toFake: ["setInterval", "clearInterval"] });
    const store = new MemoryQueueStore();
    await enqueue(store, 1);
    const ready = store.ready.bind(store);
    let lists = 0;
    store.ready = async (slots) => (lists++ === 0 ? { lanes: [], complete: false, unreached: [] } : ready(slots));
    const arrived: string[] = [];
    await startDispatcher(store, ({ body }) => {
      arrived.push(body);
      return answered(204);
    });
    await eventually(() => arrived.length === 1);
  });

  test("DISP-6: what else a service answers besides done does not matter", async () => {
    const store = new MemoryQueueStore();
    const bodies: unknown[] = [];
    for (const data of [1, 2, 3]) await enqueue(store, data);
    await startDispatcher(
      store,
      ({ body }) => {
        bodies.push(JSON.parse(body));
        return answered(200, bodies.length === 1 ? JSON.stringify({ results: "x".repeat(50_000), done: 1 }) : "");
      },
      { policy: { ...patient, batch: 3 } },
    );
    await eventually(() => bodies.length === 2);
    expect(bodies).toEqual([
      [1, 2, 3],
      [2, 3],
    ]);
  });

  test("DISP-6: a repeat of a batch that carries more items has the same ce-id and another webhook-id", async () => {
    const store = new MemoryQueueStore();
    const requests: [body: string, ceId: string, webhookId: string][] = [];
    await enqueue(store, 1);
    await startDispatcher(
      store,
      async ({ head, body, webhookId }) => {
        requests.push([body, head.id, webhookId]);
        if (requests.length > 1) return answered(200);
        for (const data of [2, 3]) await enqueue(store, data);
        return answered(500);
      },
      { policy: { ...patient, batch: 3 } },
    );
    await eventually(() => requests.length === 2);
    expect(requests).toEqual([
      ["[1]", "1", "1"],
      ["[1,2,3]", "1", expect.stringMatching(/^1-\d+$/)],
    ]);
  });

  test("DISP-15: an item that has used up lowered attempts fails without another request, unless it blocks", async () => {
    const afterFive = async (): Promise<MemoryQueueStore> => {
      const store = new MemoryQueueStore();
      await enqueue(store, 1);
      const [lane] = (await store.ready()).lanes;
      const [reply] = store.claim(lane ? [{ ...lane, maxQueues: 1, maxItems: 1 }] : []);
      const [claimed] = (await reply)?.claimed ?? [];
      if (claimed) await store.settle(claimed.lease, { kind: "retry", done: 0, attempts: 5, delayMs: 0 });
      return store;
    };
    const sent: string[] = [];
    const store = await afterFive();
    await startDispatcher(store, ({ body }) => {
      sent.push(body);
      return answered(204);
    });
    await eventually(async () => (await store.deadLetters({ limit: 1 })).letters.length === 1);
    const [letter] = (await store.deadLetters({ limit: 1 })).letters;
    expect(JSON.parse(letter?.failure ?? "")).toMatchObject({
      attempts: 5,
      lastError: { message: "5 attempts were made, and the rules allow 3; the last error is not known" },
    });
    expect(sent).toEqual([]);
    const answer: Answerer = ({ body }) => {
      sent.push(body);
      return answered(204);
    };
    await startDispatcher(await afterFive(), answer, { policy: { ...patient, onFailure: "block" } });
    await eventually(() => sent.length === 1);
  });

  test("DISP-7: after its last attempt a blocked item waits for the longest interval each time", async () => {
    const delays: number[] = [];
    class RecordingStore extends MemoryQueueStore {
      override async settle(lease: Lease, settlement: Settlement): Promise<boolean> {
        if (settlement.kind === "retry") delays.push(settlement.delayMs);
        return super.settle(lease, settlement);
      }
    }
    const store = new RecordingStore();
    const policy = { ...patient, attempts: 2, minMs: 1, maxMs: 50, onFailure: "block" } as const;
    await startDispatcher(store, () => answered(500), { policy });
    await enqueue(store, 1);
    await eventually(() => delays.length === 4);
    expect(delays.slice(1)).toEqual([50, 50, 50]);
  });

  test("DISP-7: parked and blocked queues hold their later items", async () => {
    for (const onFailure of ["park", "block"] as const) {
      const store = new MemoryQueueStore();
      let works = false;
      let refused = 0;
      const arrived: string[] = [];
      const { dispatcher } = await startDispatcher(
        store,
        ({ body }) => {
          if (works) arrived.push(body);
          else refused++;
          return answered(works ? 200 : 400);
        },
        { policy: { ...patient, onFailure, maxMs: 20 } },
      );
      await enqueue(store, 1);
      await enqueue(store, 2);
      await enqueue(store, 3, { key: "other" });
      await eventually(() => refused >= 2 && dispatcher.inFlight === 0);
      works = true;
      if (onFailure === "park") {
        expect(arrived).toEqual([]);
        expect(await store.release({ service: "documents", tenant: "", key: "k" })).toBe(true);
      }
      await eventually(() => arrived.includes("2"));
      expect(arrived.filter((body) => body !== "3")).toEqual(["1", "2"]);
      expect((await store.deadLetters({ limit: 1 })).letters).toEqual([]);
    }
  });

  test("DISP-8: tenants take turns: one with many waiting items delays another's by one turn", async () => {
    const store = new MemoryQueueStore();
    const arrived: string[] = [];
    const gate = Promise.withResolvers<void>();
    for (let data = 0; data < 2_000; data++) await enqueue(store, data, { key: String(data), tenant: "noisy" });
    await startDispatcher(
      store,
      async ({ body }) => {
        arrived.push(body);
        if (arrived.length === 100) {
          await enqueue(store, "quiet", { key: "q", tenant: "quiet" });
          gate.resolve();
        }
        await new Promise(setImmediate);
        return answered(200);
      },
      { total: 8 },
    );
    await gate.promise;
    await eventually(() => arrived.includes('"quiet"'));
    // At most a claim under way, and what the workers have in hand.
    expect(arrived.indexOf('"quiet"')).toBeLessThan(100 + 3 * 8);
  });

  test("EP-21: an item over the rate of its service is sent once the rate allows it", async () => {
    const store = new MemoryQueueStore();
    let freeAt = Infinity;
    const rate = {
      waitMs: (nowMs: number): number => {
        // From the first question on.
        if (freeAt === Infinity) freeAt = nowMs + 50;
        return Math.max(0, freeAt - nowMs);
      },
      tokens: (nowMs: number) => (nowMs < freeAt ? 0 : 1),
    };
    const arrived: number[] = [];
    const answer = (): ServiceAnswer => {
      arrived.push(performance.now());
      return answered(204);
    };
    await startDispatcher(store, answer, { rate });
    // Keeps the sweeps, every 5 s, from finding the item.
    vi.spyOn(store, "promote").mockReturnValue(new Promise(() => undefined));
    await enqueue(store, 1);
    await eventually(() => arrived.length === 1);
    expect(arrived[0]).toBeGreaterThanOrEqual(freeAt);
  });

  test("nothing of an unknown service is claimed until the rules have it", async () => {
    const store = new MemoryQueueStore();
    const claim = vi.spyOn(store, "claim");
    const arrived: string[] = [];
    let isKnown = false;
    let questions = 0;
    const { dispatcher } = await startDispatcher(
      store,
      ({ body }) => {
        arrived.push(body);
        return answered(204);
      },
      {
        isKnown: () => {
          questions++;
          return isKnown;
        },
      },
    );
    await enqueue(store, 1);
    await eventually(() => questions > 0);
    expect(claim).not.toHaveBeenCalled();
    isKnown = true;
    dispatcher.claimSoon();
    await eventually(() => arrived.length === 1);
  });

  test("a delivery that ends by a mistake frees its worker, and no worker is freed twice", async () => {
    const store = new MemoryQueueStore();
    let open = 0;
    let most = 0;
    const arrived: string[] = [];
    // Six of these workers are for first attempts.
    const workers = 6;
    await startDispatcher(
      store,
      async ({ body }) => {
        most = Math.max(most, ++open);
        await new Promise(setImmediate);
        open--;
        if (Number(body) < 2 * workers) throw new Error("a mistake");
        arrived.push(body);
        return answered(204);
      },
      { total: 8 },
    );
    for (let n = 0; n < 10 * workers; n++) await enqueue(store, n, { key: String(n) });
    await eventually(() => arrived.length === 8 * workers);
    expect(most).toBeLessThanOrEqual(workers);
  });

  test("DISP-9: a class that floods has no more than its share of the workers", async () => {
    const store = new MemoryQueueStore();
    const held: (() => void)[] = [];
    let open = 0;
    let most = 0;
    await startDispatcher(
      store,
      async (_delivery, service) => {
        if (service !== "slow") return answered(200);
        most = Math.max(most, ++open);
        await new Promise<void>((resolve) => held.push(resolve));
        open--;
        return answered(200);
      },
      { total: 18, shares: { messages: 8, stats: 1 } },
    );
    for (let data = 0; data < 50; data++) {
      await enqueue(store, data, { key: String(data), class: "stats", service: "slow" });
    }
    await eventually(() => held.length > 0);
    await enqueue(store, "message", { key: "m" });
    await eventually(async () => (await store.depths()).depths.every((depth) => depth.class !== "messages"));
    expect(most).toBeLessThanOrEqual(2);
    let released = 0;
    await eventually(() => {
      for (const resolve of held.splice(0)) {
        released++;
        resolve();
      }
      return released === 50;
    });
  });

  test("DISP-10: a dispatcher that stops finishes what is under way and claims nothing more", async () => {
    const store = new MemoryQueueStore();
    const held = Promise.withResolvers<void>();
    const arrived: string[] = [];
    const { dispatcher } = await startDispatcher(store, async ({ body }) => {
      arrived.push(body);
      await held.promise;
      return answered(200);
    });
    await enqueue(store, 1);
    await enqueue(store, 2);
    await eventually(() => arrived.length === 1);
    const stopped = dispatcher.stop();
    held.resolve();
    await stopped;
    expect(arrived).toEqual(["1"]);
    expect((await store.depths()).depths).toMatchObject([{ class: "messages", waiting: 1, inFlight: 0 }]);
  });

  test("DISP-10: a dispatcher that stops amid a claim delivers and settles what the claim brings", async () => {
    const store = new MemoryQueueStore();
    const claimed = Promise.withResolvers<void>();
    const reply = Promise.withResolvers<void>();
    const claim = store.claim.bind(store);
    store.claim = (requests) =>
      claim(requests).map(async (each) => {
        const found = await each;
        claimed.resolve();
        await reply.promise;
        return found;
      });
    const arrived: string[] = [];
    const { dispatcher } = await startDispatcher(store, ({ body }) => {
      arrived.push(body);
      return answered(200);
    });
    await enqueue(store, 1);
    await claimed.promise;
    const stopped = dispatcher.stop();
    reply.resolve();
    await stopped;
    expect(arrived).toEqual(["1"]);
    expect((await store.depths()).depths).toEqual([]);
  });

  test("QUE-4: a settlement that the store does not take is given up once the lease must have ended", async () => {
    vi.useFakeTimers({ toFake: ["performance", "setTimeout", "clearTimeout", "setInterval", "clearInterval"] });
    const store = new MemoryQueueStore();
    let tries = 0;
    store.settle = async () => {
      tries++;
      throw new Error("the store is away");
    };
    store.extend = (leases) => leases.map(async () => Promise.reject(new Error("the store is away")));
    const { dispatcher, outcomes } = await startDispatcher(store, () => answered(200));
    await enqueue(store, 1);
    while (tries === 0) await new Promise(setImmediate);
    await vi.advanceTimersByTimeAsync(leaseMs - 1_000);
    expect(dispatcher.inFlight).toBe(1);
    await vi.advanceTimersByTimeAsync(2_000);
    expect([dispatcher.inFlight, outcomes]).toEqual([0, ["stale"]]);
  });

  test("DISP-10: a lease that is given up uses up no attempt", async () => {
    const store = new MemoryQueueStore();
    const held = Promise.withResolvers<void>();
    let arrived = 0;
    const answer = async (): Promise<ServiceAnswer> => {
      arrived++;
      await held.promise;
      return answered(200);
    };
    const { dispatcher, outcomes } = await startDispatcher(store, answer, { stopMs: 1 });
    await enqueue(store, 1);
    await eventually(() => arrived === 1);
    await dispatcher.stop();
    held.resolve();
    await eventually(() => outcomes.includes("stale"));
    await store.promote();
    const [lane] = (await store.ready()).lanes;
    if (!lane) throw new Error("the item is not ready");
    const [reply] = store.claim([{ ...lane, maxQueues: 1, maxItems: 1 }]);
    expect((await reply)?.claimed).toMatchObject([{ attempts: 0 }]);
  });

  test("QFAIL-9: a slot that answers a claim late is asked again what is ready there", async () => {
    const store = new MemoryQueueStore();
    const answer = holdClaims(store, "late");
    const late = slotOfQueue({ service: "documents", tenant: "", key: "late" });
    const ready = store.ready.bind(store);
    const looks: number[] = [];
    store.ready = async (slots) => {
      looks.push(...(slots ?? []));
      return ready(slots);
    };
    const arrived: string[] = [];
    await startDispatcher(store, ({ body }) => {
      arrived.push(body);
      return answered(200);
    });
    await enqueue(store, 0, { key: "late" });
    // A claim after the first one: that one's round is over.
    for (const n of [1, 2]) {
      await enqueue(store, n, { key: "live" });
      await eventually(() => arrived.length === n);
    }
    expect(looks).toEqual([]);
    answer();
    await eventually(() => looks.includes(late) && arrived.length === 3);
  });

  test("EP-21: claims that are answered late do not exceed what an endpoint gets at once", async () => {
    const store = new MemoryQueueStore();
    const answer = holdClaims(store, "late");
    const arrived: string[] = [];
    const held = Promise.withResolvers<void>();
    let [atOnce, most] = [0, 0];
    const endpoint = { maxInFlight: 1, isOutside: true, circuit: new Circuit() };
    const { outcomes } = await startDispatcher(
      store,
      async ({ body }) => {
        arrived.push(body);
        most = Math.max(most, ++atOnce);
        if (body === "1") await held.promise;
        atOnce--;
        return answered(200);
      },
      { endpoint },
    );
    await enqueue(store, 0, { key: "late" });
    await enqueue(store, 1, { key: "live" });
    await eventually(() => arrived.length === 1);
    answer();
    await eventually(() => outcomes.includes("postponed"));
    held.resolve();
    await eventually(() => outcomes.filter((outcome) => outcome === "done").length === 2);
    expect([arrived, most]).toEqual([["1", "0"], 1]);
  });

  describe("what this process queues for an endpoint", () => {
    interface Rig {
      store: MemoryQueueStore;
      dispatcher: Dispatcher;
      /** Bodies of claims, and of requests without one. */
      claimed: string[];
      arrived: string[];
      queue: (data: string, key?: string) => Promise<Enqueued>;
    }

    /** An endpoint that has answered once, and so is known to answer soon. */
    async function rig({
      answer = () => undefined,
      maxInFlight = 16,
      total = 16,
      circuit = new Circuit(),
      rate,
    }: {
      answer?: (body: string) => Promise<void> | void;
      maxInFlight?: number;
      total?: number;
      circuit?: Circuit;
      rate?: KnownService["rate"];
    } = {}): Promise<Rig> {
      const store = new MemoryQueueStore();
      const claimed: string[] = [];
      const claim = store.claim.bind(store);
      store.claim = (requests) =>
        claim(requests).map(async (each) => {
          const reply = await each;
          claimed.push(...reply.claimed.map(({ items: [{ data }] }) => data));
          return reply;
        });
      const arrived: string[] = [];
      const { dispatcher } = await startDispatcher(
        store,
        async ({ body }) => {
          arrived.push(body);
          if (body !== "begin") await answer(body);
          return answered(204);
        },
        {
          endpoint: { maxInFlight, isOutside: true, circuit, ...(rate && { rate }) },
          total,
          shares: { [endpointClass]: 1 },
        },
      );
      let keys = 0;
      const queue = async (data: string, key = `k${keys++}`): Promise<Enqueued> => {
        return dispatcher.enqueue({
          ...endpointItem(data, "endpoint/ep_1"),
          queue: { service: "endpoint/ep_1", tenant: "", key },
        });
      };
      await queue("begin");
      await eventually(async () => (await store.depths()).depths.length === 0);
      expect([claimed.splice(0), arrived.splice(0)]).toEqual([["begin"], ["begin"]]);
      // The worker is spare once the dispatcher has looked for other work.
      await eventually(() => dispatcher.nextSpare() === undefined);
      return { store, dispatcher, claimed, arrived, queue };
    }

    test("DISP-16: it is sent without a claim while a worker is spare", async () => {
      const { store, claimed, arrived, queue } = await rig();
      for (const data of ["1", "2", "3"]) expect(await queue(data)).toMatchObject({ kind: "stored", claimed: {} });
      await eventually(async () => (await store.depths()).depths.length === 0);
      expect([arrived, claimed]).toEqual([["1", "2", "3"], []]);
    });

    test("DISP-16: what follows on the same key is claimed after it", async () => {
      const first = Promise.withResolvers<void>();
      const { claimed, arrived, queue } = await rig({
        answer: async (body) => (body === "1" ? first.promise : undefined),
      });
      await queue("1", "k");
      expect(await queue("2", "k")).not.toHaveProperty("claimed");
      expect(arrived).toEqual(["1"]);
      first.resolve();
      await eventually(() => arrived.length === 2);
      expect([arrived, claimed]).toEqual([["1", "2"], ["2"]]);
    });

    test("EP-21: items on their way to the store count as requests to the endpoint", async () => {
      const held = Promise.withResolvers<void>();
      const { store, arrived, queue } = await rig({
        maxInFlight: 2,
        answer: async () => held.promise,
      });
      const queued = await Promise.all(["1", "2", "3", "4"].map(async (data) => queue(data)));
      expect(queued.filter((each) => "claimed" in each)).toHaveLength(2);
      await nextTurn();
      expect(arrived).toEqual(["1", "2"]);
      held.resolve();
      await eventually(async () => (await store.depths()).depths.length === 0);
      expect(arrived).toEqual(["1", "2", "3", "4"]);
    });

    test("EP-16: an endpoint that is only probed gets one item at a time", async () => {
      const circuit = new Circuit({ bounds: { minFailures: 1, windowMs: 60_000, maxProbeMs: 30_000 } });
      const { queue } = await rig({ circuit });
      const about = { user: "", nowMs: performance.now() - 10_000 };
      for (let n = 0; n < 3; n++) {
        const attempt = circuit.begin(about.nowMs);
        if (attempt) circuit.end(attempt, "failed", about);
      }
      // A probe is due.
      expect([circuit.isSilent, circuit.waitMs(performance.now())]).toEqual([true, 0]);
      const queued = await Promise.all(["1", "2", "3", "4", "5", "6"].map(async (data) => queue(data)));
      expect(queued.filter((each) => "claimed" in each)).toHaveLength(1);
    });

    test("DISP-16: it does not overtake what waits for the endpoint, and workers that become free go to what is ready first", async () => {
      const held = Promise.withResolvers<void>();
      const { dispatcher, arrived, queue, store } = await rig({
        total: 8,
        answer: async (body) => (body.startsWith("held") ? held.promise : undefined),
      });
      // Three quarters of the workers do first attempts.
      for (let n = 0; n < 6; n++) expect(await queue(`held-${n}`)).toHaveProperty("claimed");
      expect(await queue("waiting")).not.toHaveProperty("claimed");
      expect(await dispatcher.nextSpare()).toBe(false);
      held.resolve();
      await eventually(() => dispatcher.nextSpare() === undefined);
      await queue("late");
      await eventually(async () => (await store.depths()).depths.length === 0);
      expect(arrived.slice(6)).toEqual(["waiting", "late"]);
    });

    test("DISP-16: nothing overtakes what became ready and is not claimed yet", async () => {
      const { store, claimed, queue } = await rig();
      const other = store.enqueue(endpointItem("other", "endpoint/ep_1"));
      expect(await queue("late")).not.toHaveProperty("claimed");
      await other;
      await eventually(() => claimed.length === 2);
      expect(claimed).toEqual(["other", "late"]);
    });

    test("DISP-16: workers that claims under way are to be given are not spare", async () => {
      const { store, dispatcher, queue } = await rig({ total: 4 });
      const reply = Promise.withResolvers<void>();
      const asked = Promise.withResolvers<void>();
      const claim = store.claim.bind(store);
      store.claim = (requests) => {
        asked.resolve();
        return claim(requests).map(async (each) => {
          await reply.promise;
          return each;
        });
      };
      for (const key of ["a", "b", "c"]) await store.enqueue(endpointItem(key, "endpoint/ep_2"));
      await asked.promise;
      expect(dispatcher.nextSpare()).toBeInstanceOf(Promise);
      expect(await queue("late")).not.toHaveProperty("claimed");
      reply.resolve();
    });

    test("DISP-16: items of other classes are claimed", async () => {
      const { dispatcher } = await rig();
      const item = { ...endpointItem("1", "endpoint/ep_1"), class: "messages" };
      expect(await dispatcher.enqueue(item)).not.toHaveProperty("claimed");
    });

    test("EP-16: what is queued for an endpoint that took long to answer is claimed", async () => {
      const began = performance.now();
      let tookMs = 0;
      vi.spyOn(performance, "now").mockImplementation(() => began + tookMs);
      const { store, queue } = await rig({ answer: () => void (tookMs += 600) });
      expect(await queue("slow")).toHaveProperty("claimed");
      await eventually(async () => (await store.depths()).depths.length === 0);
      expect(await queue("next")).not.toHaveProperty("claimed");
    });

    test("EP-21: items on their way to the store count for the rate of the endpoint", async () => {
      const { queue } = await rig({ rate: { waitMs: () => 0, tokens: () => 2 } });
      const queued = await Promise.all(["1", "2", "3", "4"].map(async (data) => queue(data)));
      expect(queued.filter((each) => "claimed" in each)).toHaveLength(2);
    });

    test("QFAIL-2: an item is not sent where its lease ended while its process waited for the store", async () => {
      const { store, arrived, queue } = await rig();
      const enqueue = store.enqueue.bind(store);
      const now = performance.now();
      let frozenMs = 0;
      vi.spyOn(performance, "now").mockImplementation(() => now + frozenMs);
      store.enqueue = async (item) => {
        const enqueued = await enqueue(item);
        frozenMs += leaseMs + 1;
        return enqueued;
      };
      const settle = vi.spyOn(store, "settle");
      expect(await queue("1")).toHaveProperty("claimed");
      expect(settle).toHaveBeenCalledWith(expect.anything(), { kind: "retry", done: 0, attempts: 0, delayMs: 0 });
      expect(arrived).toEqual([]);
    });

    test("DISP-16: a process that does not work on endpoints has nothing to wait for", async () => {
      const { dispatcher } = await startDispatcher(new MemoryQueueStore(), () => answered(204), {
        shares: {},
        only: [],
      });
      expect(dispatcher.nextSpare()).toBeUndefined();
    });

    /** Endpoints of their own, `ep_slow…` of which take 600 ms by a clock that stands still otherwise. */
    async function mixedRig(hold: Promise<void>): Promise<{
      store: MemoryQueueStore;
      dispatcher: Dispatcher;
      arrived: string[];
      answeredOnce: (service: string) => Promise<void>;
    }> {
      const began = performance.now();
      let passedMs = 0;
      vi.spyOn(performance, "now").mockImplementation(() => began + passedMs);
      const store = new MemoryQueueStore();
      const arrived: string[] = [];
      const known = new Map<string, KnownService>();
      const { dispatcher } = await startDispatcher(
        store,
        async ({ body }, service) => {
          arrived.push(body);
          if (body.startsWith("held")) await hold;
          else if (service.startsWith("endpoint/ep_slow")) passedMs += 600;
          return answered(204);
        },
        {
          endpoint: (name) => {
            const service = known.get(name) ?? { maxInFlight: 16, isOutside: true, circuit: new Circuit() };
            known.set(name, service);
            return service;
          },
          ...{ total: 8, shares: { [endpointClass]: 1 } },
        },
      );
      const answeredOnce = async (service: string): Promise<void> => {
        await store.enqueue(endpointItem(`begin ${service}`, service));
        await eventually(async () => (await store.depths()).depths.length === 0);
        await eventually(() => dispatcher.nextSpare() === undefined);
      };
      return { store, dispatcher, arrived, answeredOnce };
    }

    test("EP-16: slow endpoints get half of the workers while others take them without a claim", async () => {
      for (const [direct, most] of [
        [true, 3],
        [false, 5],
      ] as const) {
        const held = Promise.withResolvers<void>();
        const { store, dispatcher, arrived, answeredOnce } = await mixedRig(held.promise);
        await answeredOnce("endpoint/ep_quick");
        await answeredOnce("endpoint/ep_slow");
        if (direct) {
          expect(await dispatcher.enqueue(endpointItem("direct", "endpoint/ep_quick"))).toHaveProperty("claimed");
        }
        const at = arrived.length;
        for (let n = 0; n < 8; n++) await store.enqueue(endpointItem(`held ${n}`, "endpoint/ep_slow"));
        await eventually(() => arrived.length - at >= most);
        for (let turn = 0; turn < 5; turn++) await nextTurn();
        expect(arrived.length - at).toBe(most);
        held.resolve();
        await dispatcher.stop();
        vi.restoreAllMocks();
      }
    });

    test("EP-25: nobody waits for a worker while a quarter of them are busy with endpoints that are not known to be quick", async () => {
      for (const fresh of [1, 2]) {
        const held = Promise.withResolvers<void>();
        const { store, dispatcher, arrived, answeredOnce } = await mixedRig(held.promise);
        await answeredOnce("endpoint/ep_quick");
        // Each gets one request until it has answered.
        for (let n = 0; n < fresh; n++) await store.enqueue(endpointItem(`held ${n}`, `endpoint/ep_fresh${n}`));
        await eventually(() => arrived.length === 1 + fresh);
        for (let n = 0; n < 6 - fresh; n++)
          await dispatcher.enqueue(endpointItem(`held quick ${n}`, "endpoint/ep_quick"));
        const waits = dispatcher.nextSpare() !== undefined;
        expect(waits).toBe(fresh < 6 / 4);
        held.resolve();
        await dispatcher.stop();
        vi.restoreAllMocks();
      }
    });

    test("DISP-16: one that waits for a worker hears of the next one that is spare", async () => {
      const held = Promise.withResolvers<void>();
      const { dispatcher, queue } = await rig({ total: 4, answer: async () => held.promise });
      for (let n = 0; n < 3; n++) await queue(`held-${n}`);
      const next = dispatcher.nextSpare();
      held.resolve();
      expect(await next).toBe(true);
    });

    test("DISP-16: an item that is not stored frees its worker", async () => {
      const { store, dispatcher, arrived, queue } = await rig({ total: 4 });
      const enqueue = vi
        .spyOn(store, "enqueue")
        .mockRejectedValue(new TidegateError("broker_unavailable", "it is away"));
      for (let n = 0; n < 10; n++) await expect(queue("lost")).rejects.toThrow("it is away");
      enqueue.mockRestore();
      await eventually(() => dispatcher.nextSpare() === undefined);
      expect(await queue("1")).toHaveProperty("claimed");
      await eventually(() => arrived.includes("1"));
    });

    test("DISP-10: a dispatcher that stops delivers what was on its way to the store", async () => {
      const { store, dispatcher, arrived, queue } = await rig();
      const [asked, reply] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
      const enqueue = store.enqueue.bind(store);
      store.enqueue = async (item) => {
        const enqueued = await enqueue(item);
        asked.resolve();
        await reply.promise;
        return enqueued;
      };
      const queued = queue("1");
      await asked.promise;
      const stopped = dispatcher.stop();
      expect(await Promise.race([stopped.then(() => "stopped"), nextTurn("under way")])).toBe("under way");
      reply.resolve();
      await Promise.all([queued, stopped]);
      expect(arrived).toEqual(["1"]);
      expect((await store.depths()).depths).toEqual([]);
      // From now on it only stores.
      expect(await queue("2")).not.toHaveProperty("claimed");
    });
  });

  test("QFAIL-9: a slot that never answers a claim delays no other slot, and the stop waits for it", async () => {
    const store = new MemoryQueueStore();
    const answer = holdClaims(store, "dead");
    const arrived: string[] = [];
    const { dispatcher } = await startDispatcher(store, ({ body }) => {
      arrived.push(body);
      return answered(200);
    });
    await enqueue(store, 0, { key: "dead" });
    for (let n = 1; n <= 20; n++) await enqueue(store, n, { key: `live-${n}` });
    await eventually(() => arrived.length === 20);
    const stopped = dispatcher.stop();
    answer();
    await stopped;
    expect(arrived.at(-1)).toBe("0");
  });

  test("DISP-11: an item that ends each of its workers becomes a dead letter in the end", async () => {
    const store = new MemoryQueueStore();
    await enqueue(store, 1);
    for (let worker = 0; worker < 3; worker++) {
      const [lane] = (await store.ready()).lanes;
      if (!lane) throw new Error("the item is not ready");
      const [reply] = store.claim([{ ...lane, maxQueues: 1, maxItems: 1 }]);
      // What the expiry of its lease leaves behind.
      const [claimed] = (await reply)?.claimed ?? [];
      if (claimed) await store.settle(claimed.lease, { kind: "retry", done: 0, attempts: worker + 1, delayMs: 0 });
      await store.promote();
    }
    const arrived: string[] = [];
    await startDispatcher(store, ({ body }) => {
      arrived.push(body);
      return answered(200);
    });
    await eventually(async () => (await store.deadLetters({ limit: 1 })).letters.length === 1);
    expect(arrived).toEqual([]);
  });
});
