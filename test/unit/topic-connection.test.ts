/** One connection for subscriptions, and its probe, with a Redis that the test plays. */
import { EventEmitter } from "node:events";
import type { Redis } from "ioredis";
import { afterEach, beforeEach, expect, onTestFinished, test, vi } from "vitest";
import { Probe } from "../../shared/redis/probe.ts";
import { TopicConnection } from "../../shared/redis/topic-connection.ts";
import { TopicSet } from "../../shared/redis/topic-set.ts";
import { quietLogger } from "../support/logger.ts";

const probeTopic = "tidegate:{0}:probe:test";

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

/** Answers each subscribe when the test says so. */
class PlayedRedis extends EventEmitter {
  status = "wait";
  readonly subscribed = new Set<string>();
  readonly subscribing: { topics: string[]; answer: () => void; fail: (error: Error) => void }[] = [];
  async connect(): Promise<void> {
    await Promise.resolve();
    this.status = "ready";
    this.emit("ready");
  }
  async ssubscribe(...topics: string[]): Promise<void> {
    await new Promise<void>((answer, fail) => this.subscribing.push({ topics, answer, fail }));
    for (const topic of topics) this.subscribed.add(topic);
  }
  disconnect(): void {
    this.status = "end";
  }
}

test("CLU-1: topics that are adopted while others are subscribed again are not left out", async () => {
  const redis = new PlayedRedis();
  const restoredWith: string[][] = [];
  const send = async (topic: string, message: string): Promise<void> => void redis.emit("smessage", topic, message);
  const connection = new TopicConnection({
    open: [() => redis as unknown as Redis],
    beginAt: 0,
    probeSender: { write: send, publish: send },
    probeTopic,
    onMessage: () => undefined,
    onInterrupted: () => undefined,
    onRestored: () => restoredWith.push([...redis.subscribed]),
    onMoved: () => undefined,
    logger: quietLogger,
  });
  connection.start();
  onTestFinished(() => connection.stop());
  await vi.advanceTimersByTimeAsync(0);
  expect(redis.subscribing.map(({ topics }) => topics)).toEqual([[probeTopic]]);
  connection.adopt(["tidegate:{0}:channel:room:1"]);
  while (restoredWith.length === 0) {
    for (const { answer } of redis.subscribing.splice(0)) answer();
    await vi.advanceTimersByTimeAsync(100);
  }
  expect(restoredWith).toEqual([[probeTopic, "tidegate:{0}:channel:room:1"]]);
});

test("PROBE-2: a connection is deaf until messages arrive, however often it opens again", async () => {
  const opened: PlayedRedis[] = [];
  const send = async (topic: string, message: string): Promise<void> =>
    void opened.at(-1)?.emit("smessage", topic, message);
  const connection = new TopicConnection({
    open: [() => opened[opened.push(new PlayedRedis()) - 1] as unknown as Redis],
    beginAt: 0,
    probeSender: { write: send, publish: send },
    probeTopic,
    onMessage: () => undefined,
    onInterrupted: () => undefined,
    onRestored: () => undefined,
    onMoved: () => undefined,
    logger: quietLogger,
  });
  connection.start();
  onTestFinished(() => connection.stop());
  expect(connection.state).toBe("away");
  const states: string[] = [];
  for (let times = 1; times <= 3; times++) {
    await vi.advanceTimersByTimeAsync(3_000);
    states.push(connection.state);
    opened.at(-1)?.subscribing[0]?.fail(new Error("Command timed out"));
    await vi.advanceTimersByTimeAsync(0);
    expect(opened).toHaveLength(times + 1);
    states.push(connection.state);
  }
  expect(new Set(states)).toEqual(new Set(["deaf"]));
  opened.at(-1)?.subscribing[0]?.answer();
  await vi.advanceTimersByTimeAsync(0);
  expect(connection.state).toBe("ok");
});

test("CLU-1: a topic whose subscribe fails is not subscribed when the connection returns", async () => {
  const topics = new TopicSet();
  const redis = new PlayedRedis();
  const failed = topics.subscribe(redis as unknown as Redis, ["a", "b"]);
  redis.subscribing[0]?.fail(new Error("Command timed out"));
  await expect(failed).rejects.toThrow("Command timed out");
  expect([...topics.all]).toEqual([]);
});

test("PROBE-1: a connection that still receives a backlog is not silent; one that receives nothing is", async () => {
  const sender = { write: async () => undefined, publish: async () => undefined };
  const [late, silent] = [new Probe({ topic: probeTopic, sender }), new Probe({ topic: probeTopic, sender })];
  const outcomes: string[] = [];
  void late.send().then((outcome) => outcomes.push(`late ${outcome}`));
  void silent.send().then((outcome) => outcomes.push(`silent ${outcome}`));
  await vi.advanceTimersByTimeAsync(2_000);
  late.receive("another topic", "a message");
  await vi.advanceTimersByTimeAsync(2_000);
  expect(outcomes).toEqual(["silent lost"]);
  late.receive(probeTopic, "1");
  await vi.advanceTimersByTimeAsync(0);
  expect(outcomes).toEqual(["silent lost", "late returned"]);
});
