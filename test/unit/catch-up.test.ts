/** Many clients return to one channel at once: few reads of history, and each client gets the right answer. */
import { expect, test } from "vitest";
import type { HistorySlice, Position } from "../../shared/channels/contract.ts";
import { CatchUp, type CaughtUp } from "../../gateway/channels/catch-up.ts";
import { Tail } from "../../gateway/channels/tail.ts";
import { TailBudget } from "../../gateway/channels/tail-budget.ts";
import { maxReplayBytes, maxReplayPublications } from "../../shared/protocol/limits.ts";
import { eventually } from "../support/eventually.ts";
import { ModelHistory } from "../support/model-history.ts";

/** A node whose reads of history are answered when the test says so. */
function createNode(options: { historySize?: number; claimPauseMs?: number; tailBytes?: number } = {}) {
  const history = new ModelHistory({ historySize: options.historySize ?? 5_000, historySeconds: 60 });
  history.now = performance.now();
  const { retention } = history;
  const tail = new Tail(new TailBudget(options.tailBytes === undefined ? {} : { maxBytes: options.tailBytes }));
  /** Where the node stands; behind the history where messages are on their way. */
  let position: Position = history.position;
  const underWay: (() => void)[] = [];
  const catchUp = new CatchUp({
    tail,
    claimPauses: new Map(),
    claimPauseMs: options.claimPauseMs ?? 0,
    channel: {
      name: "board:1",
      get position() {
        return position;
      },
      aligned: async () => position,
      realign: () => {
        position = history.position;
        tail.restart(position);
      },
      readForCatchUp: async (reading) =>
        new Promise<HistorySlice>((resolve) => {
          underWay.push(() =>
            resolve(
              history.read({
                ...(reading?.kind === "after" && { after: reading.offset }),
                ...(reading?.kind === "newest" && { newest: true }),
                limit: reading ? maxReplayPublications : 0,
                maxBytes: maxReplayBytes,
              }),
            ),
          );
        }),
      extendTail: (at, slice, reading) => tail.extend(at, slice, reading, { retention, now: performance.now() }),
    },
  });
  return {
    history,
    catchUp,
    from: async (offset: number, epoch = history.epoch): Promise<CaughtUp> => catchUp.from({ epoch, offset }),
    publish: (delivered = true, step = 1): void => {
      const publication = history.publish(step);
      if (!delivered) return;
      position = history.position;
      tail.append(history.epoch, publication, retention, performance.now());
      catchUp.onDelivered();
    },
    /** History is full before the node follows the channel. */
    join: (): void => {
      position = history.position;
    },
    position: () => position,
    /** Answers the read that is under way. */
    answerRead: async (): Promise<void> => {
      await eventually(() => underWay.length > 0);
      underWay.shift()?.();
    },
    readUnderWay: async (): Promise<void> => eventually(() => underWay.length > 0),
    answerReads: (): NodeJS.Timeout => setInterval(() => underWay.shift()?.(), 1),
  };
}

function offsetsOf({ outcome }: CaughtUp): number[] | string {
  return outcome.kind === "broken" ? outcome.reason : outcome.publications.map(({ offset }) => offset);
}

function range(from: number, to: number): number[] {
  return Array.from({ length: to - from + 1 }, (_, i) => from + i);
}

test("REC-4: a thousand clients at positions all over the history cost two reads", async () => {
  const node = createNode();
  for (let i = 0; i < 3_000; i++) node.publish(false);
  node.join();
  const early = node.from(2_990);
  await node.readUnderWay();
  const others = range(2_001, 2_989).map((offset) => node.from(offset));
  const tooFar = [node.from(0), node.from(1_999)];
  await node.answerRead();
  expect(offsetsOf(await early)).toEqual(range(2_991, 3_000));
  node.publish();
  await node.answerRead();
  for (const [i, caughtUp] of (await Promise.all(others)).entries()) {
    expect(offsetsOf(caughtUp)).toEqual(range(2_002 + i, 3_001));
  }
  for (const caughtUp of await Promise.all(tooFar)) expect(offsetsOf(caughtUp)).toBe("too_far_behind");
  node.publish();
  const late = await Promise.all([2_500, 5, 3_001].map((offset) => node.from(offset)));
  expect(late.map(offsetsOf)).toEqual([range(2_501, 3_002), "too_far_behind", [3_002]]);
  expect(late.map(({ source }) => source)).toEqual(["tail", "tail", "tail"]);
  expect(node.history.reads).toBe(2);
});

test("REC-4: a first read that finds all of the history answers older positions, too", async () => {
  const node = createNode({ historySize: 5 });
  for (let i = 0; i < 20; i++) node.publish(false);
  node.join();
  const first = [node.from(2), node.from(17), node.from(15)];
  await node.answerRead();
  expect((await Promise.all(first)).map(offsetsOf)).toEqual(["history_trimmed", [18, 19, 20], range(16, 20)]);
  expect(offsetsOf(await node.from(1))).toBe("history_trimmed");
  expect(node.history.reads).toBe(1);
});

test("REC-4: a position inside a jump stays position_ahead", async () => {
  const node = createNode();
  for (const step of [1, 1, 1_000, 1]) node.publish(false, step);
  node.join();
  const answers = [node.from(1), node.from(500), node.from(2)];
  await node.answerRead();
  expect((await Promise.all(answers)).map(offsetsOf)).toEqual([[2, 1_002, 1_003], "position_ahead", [1_002, 1_003]]);
  expect(node.history.reads).toBe(1);
});

test("REC-6: a position that has not arrived at the node yet is read from history", async () => {
  const node = createNode();
  node.publish();
  node.publish(false);
  node.publish(false);
  const answers = [node.from(2), node.from(3), node.from(9), node.from(1, "other")];
  await node.answerRead();
  expect((await Promise.all(answers)).map(offsetsOf)).toEqual([[3], [], "position_ahead", "epoch_changed"]);
  expect(node.history.reads).toBe(1);
});

test("REC-6: reads for clients that claim to be ahead begin after the claim, a pause apart", async () => {
  const node = createNode({ claimPauseMs: 50 });
  node.publish();
  const reading = node.answerReads();
  const startedAt = performance.now();
  for (const offset of range(10, 12)) expect(offsetsOf(await node.from(offset))).toBe("position_ahead");
  // Three claims, one after the other, each after the answer to the one before: two pauses.
  expect(performance.now() - startedAt).toBeGreaterThanOrEqual(95);
  const together = await Promise.all(range(20, 99).map((offset) => node.from(offset)));
  expect(new Set(together.map(offsetsOf))).toEqual(new Set(["position_ahead"]));
  expect(node.history.reads).toBeLessThanOrEqual(5);
  expect(offsetsOf(await node.from(0))).toEqual([1]);
  clearInterval(reading);
  node.catchUp.stop();
});

test("REC-6: a client ahead of the node waits no longer than until the publication arrives", async () => {
  const node = createNode({ claimPauseMs: 60_000 });
  node.publish();
  const lie = node.from(50);
  await node.answerRead();
  expect(offsetsOf(await lie)).toBe("position_ahead");
  const ahead = node.from(2);
  node.publish();
  expect(offsetsOf(await ahead)).toEqual([]);
  expect(node.history.reads).toBe(1);
  node.catchUp.stop();
});

test("REC-6: an epoch that the broker did not know needs no second read", async () => {
  const node = createNode();
  node.publish();
  const first = node.from(1, "gone");
  await node.answerRead();
  expect(offsetsOf(await first)).toBe("epoch_changed");
  const again = await node.from(7, "gone");
  expect([offsetsOf(again), again.source, node.history.reads]).toEqual(["epoch_changed", "tail", 1]);
});

test("REC-6: a client with a newer epoch than the node makes the node align, and is caught up", async () => {
  const node = createNode();
  node.publish(false);
  node.join();
  node.history.epoch = "new";
  node.publish(false);
  const reading = node.answerReads();
  const [behind, ahead] = await Promise.all([node.from(0, "e"), node.from(1, "new")]);
  clearInterval(reading);
  expect([offsetsOf(behind), offsetsOf(ahead)]).toEqual(["epoch_changed", [2]]);
});

test("REC-5: clients are caught up without room for a tail, too", async () => {
  const node = createNode({ tailBytes: 0 });
  for (let i = 0; i < 1_500; i++) node.publish(false);
  node.join();
  const reading = node.answerReads();
  const tooFar = range(0, 20).map((offset) => node.from(offset));
  const answers = await Promise.all([1_400, 1_450, 100, 600, 1_499].map((offset) => node.from(offset)));
  clearInterval(reading);
  expect(new Set((await Promise.all(tooFar)).map(offsetsOf))).toEqual(new Set(["too_far_behind"]));
  expect(node.history.reads).toBe(2);
  expect(answers.map(offsetsOf)).toEqual([
    range(1_401, 1_500),
    range(1_451, 1_500),
    "too_far_behind",
    range(601, 1_500),
    [1_500],
  ]);
});

test("REC-7: a client ahead of a node that fell behind continues from where the channel is", async () => {
  const node = createNode();
  for (let i = 0; i < 5; i++) node.publish();
  // The node receives nothing from here on: more is published than may be replayed.
  for (let i = 0; i < maxReplayPublications + 100; i++) node.publish(false);
  const answers = node.answerReads();
  const answer = await node.from(10);
  clearInterval(answers);
  expect(offsetsOf(answer)).toBe("too_far_behind");
  expect(node.position()).toEqual(node.history.position);
});
