/** One channel from its first follower to its last, while reads of its history are under way. */
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { FollowedChannels } from "../../gateway/channels/followed-channels.ts";
import type { Follower } from "../../gateway/channels/ordered-delivery.ts";
import type { ChannelBroker, HistoryQuery, HistorySlice, Publication } from "../../shared/channels/contract.ts";
import { TidegateError } from "../../shared/runtime/errors.ts";
import { createLogger } from "../../shared/runtime/logging.ts";
import { Metrics } from "../../shared/runtime/metrics.ts";
import { noRules } from "../../shared/rules/rules.ts";
import { quietErrors } from "../support/logger.ts";

const name = "board:1";
const epoch = "e";
/** Reads of history wait here until the test answers them. */
let reads: { query: HistoryQuery; answer: (slice: HistorySlice) => void; fail: (error: Error) => void }[];
let warnings: string[];
let channels: FollowedChannels;

beforeEach(() => {
  vi.useFakeTimers();
  reads = [];
  warnings = [];
  const broker: Pick<ChannelBroker, "follow" | "unfollow" | "readHistory"> = {
    follow: async () => undefined,
    unfollow: async () => undefined,
    readHistory: (query) => new Promise((answer, fail) => reads.push({ query, answer, fail })),
  };
  const metrics = new Metrics();
  channels = new FollowedChannels({
    broker: broker as ChannelBroker,
    rules: { rules: noRules },
    errors: quietErrors,
    logger: createLogger({
      name: "test",
      level: "warn",
      destination: { write: (line) => void warnings.push(line) },
    }),
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
const joinAt = async (follower: Follower, offset: number, channel = name): Promise<void> => {
  const joined = channels.join(channel, follower);
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

const away = new TidegateError("broker_unavailable", "away");

/** Of so many channels, each at offset 1. */
const joinMany = async (count: number): Promise<Recorder[]> => {
  const followers = Array.from({ length: count }, () => new Recorder());
  for (const [i, follower] of followers.entries()) await joinAt(follower, 1, `board:${i}`);
  return followers;
};

test("RED-12: a broker that returns and hangs is one warning, and 32 reads at a time, however many channels wait", async () => {
  const followers = await joinMany(500);
  channels.listener.onRestored();
  for (const { fail } of reads.splice(0)) fail(away);
  for (let attempts = 0; attempts < 5 * followers.length;) {
    await settled();
    if (reads.length === 0) await vi.advanceTimersByTimeAsync(500);
    expect(reads.length).toBeLessThanOrEqual(32);
    attempts += reads.length;
    for (const { fail } of reads.splice(0)) fail(away);
  }
  await settled();
  expect(warnings).toHaveLength(1);
  expect(warnings[0]).toContain("history could not be read, trying again");
  const repaired = new Set<string>();
  while (repaired.size < followers.length) {
    if (reads.length === 0) await vi.advanceTimersByTimeAsync(500);
    for (const { query, answer } of reads.splice(0)) {
      repaired.add(query.channel);
      const publications = [{ offset: 2, prev: 1, event: "e", data: "1" }];
      answer({ position: { epoch, offset: 2 }, publications, more: false });
    }
    await settled();
  }
  expect(followers.every(({ offsets }) => offsets.join() === "2")).toBe(true);
});

test("HUB-5: quiet channels are compared with the broker though another one cannot be compared", async () => {
  const followers = await joinMany(1_000);
  await channels.start();
  // Once to see that they are quiet, and once more.
  while (reads.length === 0) await vi.advanceTimersByTimeAsync(1_000);
  const lost = { offset: 2, prev: 1, event: "e", data: "1" };
  for (let step = 0; step < 3; step++) {
    for (const { query, answer, fail } of reads.splice(0)) {
      if (query.channel === "board:0") fail(away);
      else if (query.channel !== "board:999") answer(at(1));
      else answer({ position: { epoch, offset: 2 }, publications: query.limit > 0 ? [lost] : [], more: false });
    }
    await settled();
  }
  expect(followers.map(({ offsets }) => offsets.length)).toEqual([...Array.from({ length: 999 }, () => 0), 1]);
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
