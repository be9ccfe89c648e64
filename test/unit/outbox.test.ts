import { describe, expect, test } from "vitest";
import { ephemeralFrame, eventFrame, type Frame, publicationFrame, singleFrame } from "../../gateway/outbox/frames.ts";
import { Outbox } from "../../gateway/outbox/outbox.ts";

/** A connection whose network takes what is written when the test says so. */
function createSink() {
  const written: string[] = [];
  let pending: (() => void)[] = [];
  return {
    written,
    takenBytes: 0,
    write(packet: string, _options: Frame["options"], sent?: () => void): void {
      written.push(packet);
      if (sent) pending.push(sent);
    },
    drain(): void {
      const now = pending;
      pending = [];
      for (const sent of now) sent();
    },
  };
}

function setUp(maxBytes = 100, conflateFromBytes = maxBytes) {
  const sink = createSink();
  let overflows = 0;
  let conflated = 0;
  const outbox = new Outbox({
    sink,
    maxBytes,
    conflateFromBytes,
    onOverflow: () => overflows++,
    onConflated: (frames) => {
      conflated += frames;
    },
  });
  return { sink, outbox, overflows: () => overflows, conflated: () => conflated };
}

function latest(channel: string, event: string, offset: number, data = "1"): Frame {
  return publicationFrame(channel, { offset, prev: offset - 1, event, data }, true);
}
const welcome = eventFrame("w", {});

describe("outbox", () => {
  test("OUT-1: frames wait until the outbox opens, and follow its first frame", () => {
    const { sink, outbox } = setUp();
    outbox.send(singleFrame("early"));
    expect(sink.written).toEqual([]);
    outbox.open(welcome);
    expect(sink.written).toEqual([welcome.packet, "early"]);
  });

  test("OUT-2: frames wait in order, and are counted, while the network is busy", () => {
    const { sink, outbox } = setUp();
    outbox.open(welcome);
    for (const word of ["one", "two"]) outbox.send(singleFrame(word));
    expect(sink.written).toHaveLength(1);
    expect(outbox.bytes).toBe(welcome.bytes + 6);
    sink.drain();
    expect(sink.written.slice(1)).toEqual(["one", "two"]);
    sink.drain();
    expect(outbox.bytes).toBe(0);
  });

  test("OUT-3: beyond its bound the outbox overflows once and drops everything", () => {
    const { sink, outbox, overflows } = setUp(20);
    outbox.open(welcome);
    for (let i = 0; i < 10; i++) outbox.send(singleFrame("x".repeat(10)));
    expect(overflows()).toBe(1);
    expect(outbox.bytes).toBe(0);
    sink.drain();
    expect(sink.written.length).toBe(1);
  });

  test("OUT-4: a single frame beyond the bound passes alone", () => {
    const { sink, outbox, overflows } = setUp(20);
    outbox.open(welcome);
    sink.drain();
    outbox.send(singleFrame("x".repeat(50)));
    expect([sink.written.length, overflows()]).toEqual([2, 0]);
  });

  test("OUT-4: so does one that waits for the welcome", () => {
    const { sink, outbox, overflows } = setUp(20);
    outbox.send(singleFrame("x".repeat(50)));
    outbox.open(welcome);
    sink.drain();
    expect([sink.written.length, overflows()]).toEqual([2, 0]);
  });

  test("OUT-2: frames leave in batches of 64 KiB, one after the other", () => {
    const { sink, outbox } = setUp(1_000_000);
    outbox.open(welcome);
    const frames = Array.from({ length: 10 }, (_, i) => singleFrame(`${i}${"x".repeat(20_000)}`));
    for (const frame of frames) outbox.send(frame);
    const counts: number[] = [];
    while (outbox.bytes > 0) {
      sink.drain();
      counts.push(sink.written.length - 1);
    }
    expect(counts).toEqual([3, 6, 9, 10, 10]);
    expect(sink.written.slice(1)).toEqual(frames.map(({ packet }) => packet));
  });

  test("SLOW-5: beyond the mark only the newest frame of each channel and event waits", () => {
    const { sink, outbox, conflated } = setUp(10_000, 500);
    outbox.open(welcome);
    const ack = singleFrame("ack");
    const plain = publicationFrame("log:1", { offset: 7, prev: 6, event: "a", data: "1" }, false);
    const ephemeral = ephemeralFrame("x:1", { event: "a", data: "2" }, true);
    outbox.send(latest("x:1", "a", 1, "1".repeat(200)));
    outbox.send(plain);
    outbox.send(latest("x:1", "b", 2));
    outbox.send(ephemeralFrame("x:1", { event: "a", data: "1" }, true));
    outbox.send(ack);
    outbox.send(latest("x:1", "a", 3, "1".repeat(200)));
    outbox.send(latest("x:2", "a", 1));
    outbox.send(plain);
    outbox.send(ephemeral);
    outbox.send(latest("x:1", "a", 4));
    expect(conflated()).toBe(3);
    while (outbox.bytes > 0) sink.drain();
    const expected = [
      plain,
      latest("x:1", "b", 2),
      ack,
      latest("x:2", "a", 1),
      plain,
      ephemeral,
      latest("x:1", "a", 4),
    ];
    expect(sink.written.slice(1)).toEqual(expected.map(({ packet }) => packet));
  });

  test("SLOW-5: joins and leaves are never conflated", () => {
    for (const event of ["sync:join", "sync:leave"]) {
      expect(ephemeralFrame("x:1", { event, data: "{}" }, true).conflationKey).toBeUndefined();
    }
  });

  test("SLOW-6: every publication waits below the mark, and again once the queue was empty", () => {
    const { sink, outbox, conflated } = setUp(10_000, 500);
    outbox.open(welcome);
    for (const offset of [1, 2, 3, 4]) outbox.send(latest("x:1", "a", offset));
    sink.drain();
    expect([sink.written.length, conflated()]).toEqual([5, 0]);
    for (let offset = 5; offset < 50; offset++) outbox.send(latest("x:1", "a", offset));
    const before = conflated();
    expect(before).toBeGreaterThan(0);
    while (outbox.bytes > 0) sink.drain();
    expect(sink.written.at(-1)).toBe(latest("x:1", "a", 49).packet);
    for (const offset of [50, 51, 52]) outbox.send(latest("x:1", "a", offset));
    expect(conflated()).toBe(before);
  });

  test("SLOW-7: conflation keeps the outbox from overflowing, unless the newest alone are too much", () => {
    const { outbox, overflows } = setUp(2_000, 500);
    outbox.open(welcome);
    for (let offset = 1; offset < 10_000; offset++) outbox.send(latest("x:1", `e${offset % 10}`, offset));
    expect(overflows()).toBe(0);
    for (let offset = 10_000; offset < 10_100; offset++) outbox.send(latest("x:1", `e${offset}`, offset));
    expect(overflows()).toBe(1);
    expect(outbox.bytes).toBe(0);
  });

  test("OUT-5: the outbox calls back when its last frame has left, and sends nothing after it", () => {
    const { sink, outbox } = setUp();
    outbox.open(welcome);
    let finished = 0;
    outbox.finish(singleFrame("last"), () => finished++);
    outbox.send(singleFrame("late"));
    sink.drain();
    expect([sink.written.slice(1), finished]).toEqual([["last"], 0]);
    outbox.send(singleFrame("later"));
    sink.drain();
    expect([sink.written.slice(1), finished]).toEqual([["last"], 1]);
  });
});
