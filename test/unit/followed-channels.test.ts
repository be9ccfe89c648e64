/** One channel from its first follower to its last, while reads of its history are under way. */
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { FollowedChannels } from "../../gateway/channels/followed-channels.ts";
import type { Follower } from "../../gateway/channels/ordered-delivery.ts";
import type { ChannelBroker, HistorySlice, Publication } from "../../shared/channels/contract.ts";
import { TidegateError } from "../../shared/runtime/errors.ts";
import { Metrics } from "../../shared/runtime/metrics.ts";
import { noRules } from "../../shared/rules/rules.ts";
import { quietErrors, quietLogger } from "../support/logger.ts";

const name = "board:1";
const epoch = "e";
/** Reads of history wait here until the test answers them. */
let reads: { answer: (slice: HistorySlice) => void; fail: (error: Error) => void }[];
let channels: FollowedChannels;

beforeEach(() => {
  vi.useFakeTimers();
  reads = [];
  const broker: Pick<ChannelBroker, "follow" | "unfollow" | "readHistory"> = {
    follow: async () => undefined,
    unfollow: async () => undefined,
    readHistory: () => new Promise((answer, fail) => reads.push({ answer, fail })),
  };
  const metrics = new Metrics();
  channels = new FollowedChannels({
    broker: broker as ChannelBroker,
    rules: { rules: noRules },
    errors: quietErrors,
    logger: quietLogger,
    metrics: {
      deliveries: metrics.counter("deliveries_total", "deliveries"),
      resyncs: metrics.counter("resyncs_total", "resyncs", ["reason"]),
      historyReads: metrics.counter("history_reads_total", "reads", ["kind"]),
    },
  });
});
afterEach(async () => {
  await channels.stop();
  vi.useRealTimers();
});

class Recorder implements Follower {
  readonly offsets: number[] = [];
  deliver(_frame: unknown, { offset }: Publication): void {
    this.offsets.push(offset);
  }
  deliverEphemeral(): void {}
  markLost(): boolean {
    return true;
  }
  resync(): undefined {}
}

function at(offset: number): HistorySlice {
  return { position: { epoch, offset }, publications: [], more: false };
}

const settled = (): Promise<unknown> => vi.advanceTimersByTimeAsync(0);
const nextRead = (): (typeof reads)[number] => {
  const read = reads.shift();
  if (!read) throw new Error("no read is under way");
  return read;
};
const joinAt = async (follower: Follower, offset: number): Promise<void> => {
  const joined = channels.join(name, follower);
  await settled();
  nextRead().answer(at(offset));
  await joined;
};
const publish = (offset: number): void =>
  channels.listener.onPublication(name, epoch, { offset, prev: offset - 1, event: "e", data: "1" });

test("HUB-4: a channel that is left and joined again during its first read is read once more", async () => {
  const [early, late] = [new Recorder(), new Recorder()];
  const joined = channels.join(name, early);
  await settled();
  const first = nextRead();
  channels.leave(name, early);
  const joinedAgain = channels.join(name, late);
  publish(8);
  first.answer(at(7));
  await settled();
  expect([early.offsets, late.offsets]).toEqual([[], []]);
  nextRead().answer(at(7));
  await Promise.all([joined, joinedAgain]);
  expect(await channels.position(name)).toEqual({ epoch, offset: 8 });
  publish(9);
  expect([early.offsets, late.offsets]).toEqual([[], [8, 9]]);
  expect([reads.length, channels.channelCount]).toEqual([0, 1]);
});

test("HUB-4: a read that ends after the last follower left delivers nothing and keeps no tail", async () => {
  const follower = new Recorder();
  await joinAt(follower, 1);
  // A gap: history is read.
  publish(3);
  channels.leave(name, follower);
  const missed = { offset: 2, prev: 1, event: "e", data: "1" };
  nextRead().answer({ position: { epoch, offset: 2 }, publications: [missed], more: false });
  await settled();
  expect([follower.offsets, channels.tailBytes, channels.channelCount]).toEqual([[], 0, 0]);
});

test("SUB-3: clients that catch up are rejected once their channel has no follower left", async () => {
  const follower = new Recorder();
  await joinAt(follower, 5);
  const caughtUp = channels.catchUp(name, { epoch, offset: 9 });
  await settled();
  nextRead().answer(at(5));
  expect((await caughtUp).outcome).toEqual({ kind: "broken", reason: "position_ahead" });
  const outcome = channels.catchUp(name, { epoch, offset: 10 }).catch((error: TidegateError) => error.code);
  await settled();
  channels.leave(name, follower);
  expect(await outcome).toBe("not_subscribed");
  expect(reads).toEqual([]);
});

test("REC-6: leaving a channel and joining it again does not shorten the pause between claims", async () => {
  const follower = new Recorder();
  await joinAt(follower, 5);
  const first = channels.catchUp(name, { epoch, offset: 9 });
  await settled();
  nextRead().answer(at(5));
  await first;
  channels.leave(name, follower);
  await joinAt(follower, 5);
  const second = channels.catchUp(name, { epoch, offset: 9 });
  await vi.advanceTimersByTimeAsync(900);
  expect(reads).toEqual([]);
  await vi.advanceTimersByTimeAsync(100);
  nextRead().answer(at(5));
  expect((await second).outcome).toEqual({ kind: "broken", reason: "position_ahead" });
  await vi.advanceTimersByTimeAsync(1_000);
});

test("HUB-9: a failed read of history is repeated while the channel has a follower", async () => {
  const follower = new Recorder();
  await joinAt(follower, 1);
  publish(3);
  nextRead().fail(new TidegateError("broker_unavailable", "away"));
  await vi.advanceTimersByTimeAsync(500);
  nextRead().fail(new TidegateError("broker_unavailable", "away"));
  await settled();
  channels.leave(name, follower);
  await vi.advanceTimersByTimeAsync(5_000);
  expect(reads).toEqual([]);
});

test.each([3_600_000, -3_600_000])(
  "REC-3: a tail lasts as long as its history where the clock steps %i ms",
  async (step) => {
    await joinAt(new Recorder(), 5);
    publish(6);
    const fromTail = async (): Promise<string> => {
      const caughtUp = channels.catchUp(name, { epoch, offset: 5 });
      await settled();
      const read = reads.pop();
      read?.answer({ position: { epoch, offset: 6 }, publications: [], more: false });
      await caughtUp;
      return read ? "history" : "tail";
    };
    vi.setSystemTime(Date.now() + step);
    expect(await fromTail()).toBe("tail");
    await vi.advanceTimersByTimeAsync(noRules.namespace(name).historySeconds * 1_000);
    expect(await fromTail()).toBe("history");
  },
);
