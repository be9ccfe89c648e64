import Fastify from "fastify";
import { afterEach, expect, test, vi } from "vitest";
import { BridgeCondition } from "../../private-api/bridges/bridge-condition.ts";
import { Outgoing, type OutgoingOptions } from "../../private-api/bridges/outgoing.ts";
import { ChangePulls } from "../../private-api/changes/change-pulls.ts";
import type { PrivateApiContext } from "../../private-api/node/context.ts";
import { addListChanges } from "../../private-api/routes/list-changes.ts";
import { MemoryChangeLog } from "../../shared/changes/memory.ts";
import { RoomMap } from "../../shared/rules/bridge-rooms.ts";
import { quietLogger } from "../support/logger.ts";
import { noTables } from "../support/table-rows.ts";

afterEach(() => {
  vi.restoreAllMocks();
});

test("BRI-9: what was emitted beside a failure is not emitted again, without marks and in the next session", async () => {
  const changes = ["board:1", "board:2", "board:1"].map((channel, n) => ({
    ...{ channel, event: "note", data: String(n), place: `1-${n}` },
  }));
  const emitted: unknown[] = [];
  let failures = 1;
  const options = {
    ...{ name: "legacy", identity: "identity", rooms: new RoomMap({ "board-{id}": "board:{id}" }) },
    ...{ cursor: undefined, places: new Map(), checkLease: () => 1, count: () => undefined },
    pulls: {
      pull: async () => ({ items: changes.map((change) => ({ kind: "change", change })), cursor: undefined }),
    },
    fleet: {
      // Its Redis was restarted without its data.
      places: async () => new Map(),
      emit: async (_: unknown, { data }: { data: unknown }) => {
        if (data === 1 && failures-- > 0) throw new Error("refused");
        emitted.push(data);
        return "emitted";
      },
    },
    onTrouble: () => undefined,
    onRead: () => undefined,
  };
  for (let session = 0; session < 2; session++) {
    const finished = Promise.withResolvers<void>();
    const outgoing = new Outgoing({ ...options, onDone: async () => finished.resolve() } as unknown as OutgoingOptions);
    const running = outgoing.run();
    await finished.promise;
    outgoing.stop();
    await running;
  }
  expect(emitted).toEqual([0, 2, 1]);
});

test("CHG-12: a bridge and a token that has the name of its cursor keep what each of them needs", async () => {
  const log = new MemoryChangeLog();
  const keep = vi.spyOn(log, "keep");
  const pulls = new ChangePulls({ log, tables: noTables, logger: quietLogger });
  const finished = Promise.withResolvers<void>();
  const outgoing = new Outgoing({
    ...{ name: "legacy", identity: "identity", rooms: new RoomMap({ "board-{id}": "board:{id}" }) },
    ...{ cursor: undefined, places: new Map(), checkLease: () => 1, count: () => undefined, pulls },
    fleet: { places: async () => new Map(), emit: async () => "emitted" },
    onTrouble: () => undefined,
    onRead: () => undefined,
    onDone: async () => finished.resolve(),
  });
  const running = outgoing.run();
  await finished.promise;
  outgoing.stop();
  await pulls.stop();
  await running;
  const app = Fastify();
  app.decorateRequest("caller", "bridge:legacy");
  addListChanges(app, { pulls } as PrivateApiContext);
  expect((await app.inject("/v1/changes?channels=board:*")).statusCode).toBe(200);
  await app.close();
  const names = keep.mock.calls.map(([name]) => name);
  expect(new Set(names).size, names.join()).toBe(2);
});

test("BRI-10: publications that keep coming are no lag where each read is emitted whole", async () => {
  const publications = new PublishingLog(["more", "last", "more"]);
  const isLast: boolean[] = [];
  const finished = Promise.withResolvers<void>();
  const outgoing = new Outgoing({
    ...{ name: "legacy", identity: "identity", rooms: new RoomMap({ "board-{id}": "board:{id}" }) },
    ...{ cursor: undefined, places: new Map(), checkLease: () => 1, count: () => undefined, pulls: publications },
    fleet: { places: async () => new Map(), emit: async () => "emitted" },
    onTrouble: () => undefined,
    onRead: () => undefined,
    onDone: async (_: unknown, last: boolean) => {
      isLast.push(last);
      if (isLast.length === 3) finished.resolve();
    },
  } as unknown as OutgoingOptions);
  const running = outgoing.run();
  await finished.promise;
  outgoing.stop();
  await running;
  expect(isLast.slice(0, 3)).toEqual([false, true, false]);
});

test("BRI-10: publications lag while they are emitted, from when they may have been published", async () => {
  let now = 1_000;
  vi.spyOn(performance, "now").mockImplementation(() => now);
  const condition = new BridgeCondition({ logger: quietLogger, emits: true });
  condition.emitted(true, now);
  now = 5_000;
  const lags: number[] = [condition.status.lagMs];
  const finished = Promise.withResolvers<void>();
  const outgoing = new Outgoing({
    ...{ name: "legacy", identity: "identity", rooms: new RoomMap({ "board-{id}": "board:{id}" }) },
    ...{ cursor: undefined, places: new Map(), checkLease: () => 1, count: () => undefined },
    pulls: new PublishingLog(["last", "last"]),
    fleet: {
      places: async () => new Map(),
      emit: async () => {
        now += 3_000;
        lags.push(condition.status.lagMs);
        return "emitted";
      },
    },
    onTrouble: () => undefined,
    onRead: (areNew: boolean) => condition.read(areNew),
    onDone: async (_: unknown, isLast: boolean, readAt: number) => {
      condition.emitted(isLast, readAt);
      lags.push(condition.status.lagMs);
      if (lags.length >= 5) finished.resolve();
    },
  } as unknown as OutgoingOptions);
  const running = outgoing.run();
  await finished.promise;
  outgoing.stop();
  await running;
  // What came while the first batch was emitted waited for that, too.
  expect(lags.slice(0, 5)).toEqual([0, 3_000, 0, 6_000, 0]);
});

/** A log in which every read finds a publication, the first one after it waited, and some reads leave further ones behind. */
class PublishingLog {
  readonly #reads: readonly ("more" | "last")[];
  #count = 0;

  constructor(reads: readonly ("more" | "last")[]) {
    this.#reads = reads;
  }

  async pull(): Promise<object> {
    const n = this.#count++;
    const change = { channel: "board:1", event: "note", data: String(n), place: `1-${n}` };
    const more = this.#reads[n] !== "last";
    return { items: [{ kind: "change", change }], cursor: undefined, more, hasWaited: n === 0 };
  }
}
