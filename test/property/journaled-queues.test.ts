/** The order of items through random outages: queues whose connection breaks at any moment, and a real journal. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setImmediate } from "node:timers/promises";
import fc from "fast-check";
import { expect, test } from "vitest";
import { Journal } from "../../gateway/journal/journal.ts";
import { JournaledQueues } from "../../gateway/journal/journaled-queues.ts";
import type { Enqueued, NewItem, QueueStore } from "../../shared/queues/contract.ts";
import { brokerUnavailable } from "../../shared/redis/unavailable.ts";
import { Metrics } from "../../shared/runtime/metrics.ts";
import { eventually } from "../support/eventually.ts";
import { quietErrors, quietLogger } from "../support/logger.ts";

interface Command {
  /** Undefined: a question that changes nothing, such as a quota's. */
  item: NewItem | undefined;
  resolve: (enqueued: Enqueued) => void;
  reject: (error: Error) => void;
}

/** One connection: commands are executed in order, and after a break nobody knows how many were. */
class BreakableQueues {
  readonly stored: string[] = [];
  readonly #ids = new Set<string>();
  #commands: Command[] = [];
  #isUp = true;
  #answersAtOnce = false;

  async run(item?: NewItem): Promise<Enqueued> {
    if (!this.#isUp) throw brokerUnavailable("down");
    return new Promise((resolve, reject) => {
      this.#commands.push({ item, resolve, reject });
      if (this.#answersAtOnce) this.answer(1);
    });
  }

  answer(count: number): void {
    for (const { item, resolve } of this.#commands.splice(0, count)) {
      resolve(this.#execute(item) ? { kind: "stored", sequence: "1" } : { kind: "duplicate" });
    }
  }

  /** @param executed commands whose answers are lost */
  break(executed: number): void {
    const commands = this.#commands;
    this.#commands = [];
    this.#isUp = false;
    for (const { item } of commands.slice(0, executed)) this.#execute(item);
    for (const { reject } of commands) reject(brokerUnavailable("broken"));
  }

  /** Further commands are refused; those that were sent may still be answered. */
  hang(): void {
    this.#isUp = false;
  }

  repair(options: { answersAtOnce?: boolean } = {}): void {
    this.#isUp = true;
    this.#answersAtOnce = options.answersAtOnce ?? false;
    if (this.#answersAtOnce) this.answer(Infinity);
  }

  #execute(item: NewItem | undefined): boolean {
    const id = item?.dedupeId ?? "";
    if (!item || this.#ids.has(id)) return false;
    this.#ids.add(id);
    this.stored.push(id);
    return true;
  }
}

const step = fc.oneof(
  { weight: 6, arbitrary: fc.record({ kind: fc.constant("arrive" as const), count: fc.integer({ min: 1, max: 4 }) }) },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant("answer" as const), count: fc.integer({ min: 1, max: 6 }) }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant("break" as const), count: fc.integer({ min: 0, max: 4 }) }) },
  {
    weight: 3,
    arbitrary: fc.record({ kind: fc.constantFrom("hang" as const, "repair" as const), count: fc.constant(0) }),
  },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("wait" as const), count: fc.integer({ min: 1, max: 5 }) }) },
);

interface Step {
  kind: "arrive" | "answer" | "break" | "hang" | "repair" | "wait";
  count: number;
}

/** @returns how many items were stored. */
async function run(
  journaled: JournaledQueues,
  queues: BreakableQueues,
  steps: readonly Step[],
  asksFirst: boolean,
): Promise<number> {
  const outcomes: Promise<unknown>[] = [];
  const arrive = (): void => {
    const id = String(outcomes.length);
    const queue = { service: "s", tenant: "", key: "k" };
    const item = { queue, class: "messages", head: "{}", data: id, dedupeId: id };
    const admit = async (): Promise<undefined> => {
      if (asksFirst) await queues.run();
    };
    outcomes.push(journaled.store({ items: () => [item], admit, enqueue: async () => queues.run(item) }));
  };
  for (const { kind, count } of steps) {
    if (kind === "arrive") for (let n = 0; n < count; n++) arrive();
    else if (kind === "answer") queues.answer(count);
    else if (kind === "break") queues.break(count);
    else if (kind === "hang") queues.hang();
    else if (kind === "repair") queues.repair();
    else await new Promise((resolve) => setTimeout(resolve, count));
    await setImmediate();
  }
  queues.repair({ answersAtOnce: true });
  // Some of them meet the end of the replay.
  for (let n = 0; n < 30; n++) {
    arrive();
    await setImmediate();
  }
  await Promise.all(outcomes);
  await eventually(() => journaled.items === 0);
  return outcomes.length;
}

test("JRN-4: whatever breaks when, every item is stored once and in the order of arrival", async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 40 }), fc.boolean(), async (steps, asksFirst) => {
      const directory = await mkdtemp(join(tmpdir(), "tidegate-journal-"));
      const journal = new Journal({ directory, maxBytes: 1024 * 1024, logger: quietLogger });
      const queues = new BreakableQueues();
      const store = { enqueue: async (item: NewItem) => queues.run(item) } as unknown as QueueStore;
      const counter = new Metrics().counter("items", "Items", ["outcome"]);
      const common = { journal, queues: store, counter, errors: quietErrors, logger: quietLogger };
      const journaled = new JournaledQueues({ ...common, retryMs: 1 });
      await journaled.start();
      try {
        const count = await run(journaled, queues, steps, asksFirst);
        expect(queues.stored).toEqual(Array.from({ length: count }, (_, n) => String(n)));
      } finally {
        await journaled.stop();
        await rm(directory, { recursive: true, force: true });
      }
    }),
    { numRuns: 60 },
  );
});
