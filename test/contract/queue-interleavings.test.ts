/**
 * Every interleaving of two workers, two keys and three items, with one expiry of the leases and one worker that crashes. Each step
 * that can follow in each state is taken once, on a model, in memory and on Redis: all three give the same results.
 */
import { expect, test } from "vitest";
import type { Lease, QueueStore } from "../../shared/queues/contract.ts";
import { slotOfQueue } from "../../shared/queues/keys.ts";
import { MemoryQueueStore } from "../../shared/queues/memory.ts";
import { RedisQueueStore } from "../../shared/queues/redis.ts";
import { Cells } from "../../shared/redis/cells.ts";
import { connectedRedis } from "../support/connected-redis.ts";

const items = ["A1", "A2", "B1"] as const;
const keys = ["A", "B"] as const;
const workers = [0, 1] as const;
const claimsEach = 2;

type Step =
  /** `worker`: takes the lease where the queue is new. */
  | { kind: "enqueue"; worker?: number }
  | { kind: "claim"; worker: number; key: string; attempt: "first" | "retry" }
  | { kind: "done" | "retry" | "crash"; worker: number }
  | { kind: "expire" };

interface ModelQueue {
  items: string[];
  attempts: number;
  state: "ready" | "leased" | "delayed";
  lane: "first" | "retry";
  /** Counts leases of the queue: a worker with an older number holds none. */
  fence: number;
}

/** What the store is meant to do, as simple as it can be said. */
class Model {
  stored = 0;
  expired = false;
  crashed = false;
  readonly queues = new Map<string, ModelQueue>();
  readonly held: ({ key: string; fence: number; item: string; attempts: number } | undefined)[] = [
    undefined,
    undefined,
  ];
  readonly claims = [0, 0];
  /** In the order in which they left their queue. */
  readonly left: string[] = [];
  fences = 0;

  steps(): Step[] {
    const steps: Step[] = [];
    if (this.stored < items.length) steps.push({ kind: "enqueue" });
    for (const worker of workers) {
      if (this.held[worker]) {
        steps.push({ kind: "done", worker }, { kind: "retry", worker });
        if (!this.crashed) steps.push({ kind: "crash", worker });
      } else if ((this.claims[worker] ?? 0) < claimsEach) {
        // The other one would do the same.
        if (this.stored < items.length && worker === 0) steps.push({ kind: "enqueue", worker });
        // Also where the queue is leased or delayed: there is nothing to claim then.
        for (const [key, { lane }] of this.queues) steps.push({ kind: "claim", worker, key, attempt: lane });
      }
    }
    if (!this.expired) steps.push({ kind: "expire" });
    return steps;
  }

  /** @returns what the store has to answer */
  take(step: Step): unknown {
    switch (step.kind) {
      case "enqueue": {
        const item = items[this.stored++] ?? "";
        const key = item.slice(0, 1);
        const { worker } = step;
        if (worker !== undefined) this.claims[worker] = (this.claims[worker] ?? 0) + 1;
        const known = this.queues.get(key);
        if (known) {
          known.items.push(item);
          return "stored";
        }
        const queue: ModelQueue = { items: [item], attempts: 0, state: "ready", lane: "first", fence: 0 };
        this.queues.set(key, queue);
        if (worker === undefined) return "stored";
        queue.state = "leased";
        queue.fence = ++this.fences;
        this.held[worker] = { key, fence: queue.fence, item, attempts: 0 };
        return "leased";
      }
      case "claim": {
        this.claims[step.worker] = (this.claims[step.worker] ?? 0) + 1;
        const queue = this.queues.get(step.key);
        if (queue?.state !== "ready" || queue.lane !== step.attempt) return undefined;
        queue.state = "leased";
        queue.fence = ++this.fences;
        const [item = ""] = queue.items;
        this.held[step.worker] = { key: step.key, fence: queue.fence, item, attempts: queue.attempts };
        return { item, attempts: queue.attempts };
      }
      case "crash":
        this.crashed = true;
        this.held[step.worker] = undefined;
        return undefined;
      case "done":
      case "retry": {
        const held = this.held[step.worker];
        this.held[step.worker] = undefined;
        const queue = this.queues.get(held?.key ?? "");
        if (!held || !queue || queue.state !== "leased" || queue.fence !== held.fence) return false;
        if (step.kind === "retry") {
          queue.state = "delayed";
          queue.attempts = held.attempts + 1;
          return true;
        }
        this.left.push(queue.items.shift() ?? "");
        queue.attempts = 0;
        queue.state = "ready";
        queue.lane = "first";
        if (queue.items.length === 0) this.queues.delete(held.key);
        return true;
      }
      case "expire":
        this.expired = true;
        for (const queue of this.queues.values()) {
          if (queue.state === "ready") continue;
          if (queue.state === "leased") queue.attempts++;
          queue.state = "ready";
          queue.lane = "retry";
        }
        return undefined;
    }
  }

  /** Equal states have equal futures. */
  get id(): string {
    const { stored, expired, crashed, claims, held, queues } = this;
    const order = [...queues.values()].map(({ fence }) => fence).toSorted((a, b) => a - b);
    const rank = (fence: number): number => order.indexOf(fence);
    return JSON.stringify([
      ...[stored, expired, crashed, claims],
      held.map((lease) => lease && [lease.key, rank(lease.fence), lease.item, lease.attempts]),
      keys.map((key) => {
        const queue = queues.get(key);
        return queue && [queue.items, queue.attempts, queue.state, queue.lane, rank(queue.fence)];
      }),
    ]);
  }
}

function replay(path: readonly Step[]): Model {
  const model = new Model();
  for (const step of path) model.take(step);
  return model;
}

/** Paths that, together, take each step of each state. */
function everyPath(): Step[][] {
  const paths: Step[][] = [];
  const seen = new Set<string>();
  const waiting: Step[][] = [[]];
  for (let path = waiting.pop(); path; path = waiting.pop()) {
    const steps = replay(path).steps();
    if (steps.length === 0) paths.push(path);
    for (const step of steps) {
      const longer = [...path, step];
      const { id } = replay(longer);
      if (seen.has(id)) paths.push(longer);
      else {
        seen.add(id);
        waiting.push(longer);
      }
    }
  }
  return paths;
}

let services = 0;

/** Takes the steps on a store, then works off what is left. @returns the answers, and the items as they left their queues */
async function run(store: QueueStore, path: readonly Step[]): Promise<{ answers: unknown[]; left: string[] }> {
  const service = `s${++services}`;
  const queueOf = (key: string): { service: string; tenant: string; key: string } => ({ service, tenant: "", key });
  const held: ({ lease: Lease; item: string; attempts: number } | undefined)[] = [];
  const left: string[] = [];
  let stored = 0;
  const claim = async (worker: number, key: string, attempt: "first" | "retry"): Promise<unknown> => {
    const lane = { slot: slotOfQueue(queueOf(key)), class: "messages", service, tenant: "", attempt };
    const [reply] = store.claim([{ ...lane, maxQueues: 1, maxItems: 1 }]);
    const [claimed] = (await reply)?.claimed ?? [];
    if (!claimed) return undefined;
    const [{ data }] = claimed.items;
    held[worker] = { lease: claimed.lease, item: data, attempts: claimed.attempts };
    return { item: data, attempts: claimed.attempts };
  };
  const settle = async (worker: number, kind: "done" | "retry"): Promise<boolean> => {
    const work = held[worker];
    held[worker] = undefined;
    if (!work) throw new Error("the worker holds nothing");
    if (kind === "retry") {
      return store.settle(work.lease, { kind, done: 0, attempts: work.attempts + 1, delayMs: 0 });
    }
    const took = await store.settle(work.lease, { kind, done: 1 });
    if (took) left.push(work.item);
    return took;
  };
  const take = async (step: Step): Promise<unknown> => {
    switch (step.kind) {
      case "enqueue": {
        const item = items[stored++] ?? "";
        const outcome = await store.enqueue({
          queue: queueOf(item.slice(0, 1)),
          class: "messages",
          head: "{}",
          data: item,
          ...(step.worker !== undefined && { takesLease: true }),
        });
        const claimed = outcome.kind === "stored" ? outcome.claimed : undefined;
        if (!claimed || step.worker === undefined) return outcome.kind;
        held[step.worker] = { lease: claimed.lease, item, attempts: claimed.attempts };
        return "leased";
      }
      case "claim":
        return claim(step.worker, step.key, step.attempt);
      case "crash":
        held[step.worker] = undefined;
        return undefined;
      case "done":
      case "retry":
        return settle(step.worker, step.kind);
      case "expire":
        await store.promote(keys.map((key) => slotOfQueue(queueOf(key))));
        return undefined;
    }
  };
  const answers: unknown[] = [];
  for (const step of path) answers.push(await take(step));
  while (stored < items.length) await take({ kind: "enqueue" });
  for (let round = 0; left.length < items.length && round < 10; round++) {
    await take({ kind: "expire" });
    for (const key of keys) {
      for (const attempt of ["first", "retry", "first"] as const)
        if (await claim(0, key, attempt)) await settle(0, "done");
    }
  }
  return { answers, left };
}

const store = connectedRedis();

test("QUE-12: in every interleaving items leave in order and once, and stale workers change nothing", async () => {
  const paths = everyPath();
  expect(paths.length).toBeGreaterThan(1_000);
  // A lease that has expired holds until that is looked for.
  const onRedis = new RedisQueueStore(new Cells(store.connections), { leaseMs: 0 });
  const check = async (path: readonly Step[]): Promise<void> => {
    const model = new Model();
    const expected = path.map((step) => model.take(step));
    for (const store of [new MemoryQueueStore({ leaseMs: 0 }), onRedis]) {
      const { answers, left } = await run(store, path);
      expect(answers, JSON.stringify(path)).toEqual(expected);
      expect(
        left.filter((item) => item.startsWith("A")),
        JSON.stringify(path),
      ).toEqual(["A1", "A2"]);
      expect(
        left.filter((item) => item.startsWith("B")),
        JSON.stringify(path),
      ).toEqual(["B1"]);
    }
  };
  for (const path of paths) await check(path);
});
