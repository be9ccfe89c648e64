import { describe, expect, test } from "vitest";
import { eventFrame, type Frame, singleFrame } from "../../gateway/frames.ts";
import { Outbox } from "../../gateway/outbox.ts";

/** A connection whose network takes what is written only when it is told to. */
function createSink() {
  const written: string[] = [];
  let pending: (() => void)[] = [];
  return {
    written,
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

function setUp(maxBytes = 100) {
  const sink = createSink();
  let overflows = 0;
  const outbox = new Outbox({ sink, maxBytes, onOverflow: () => overflows++ });
  return { sink, outbox, overflows: () => overflows };
}
const welcome = eventFrame("w", {});

describe("outbox", () => {
  test("OUT-1: nothing leaves before it is opened, and the first frame goes first", () => {
    const { sink, outbox } = setUp();
    outbox.send(singleFrame("early"));
    expect(sink.written).toEqual([]);
    outbox.open(welcome);
    expect(sink.written).toEqual([welcome.packet, "early"]);
  });

  test("OUT-2: while the network is busy frames wait, in order, and are counted", () => {
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

  test("OUT-3: past the bound it overflows once, and keeps nothing", () => {
    const { sink, outbox, overflows } = setUp(20);
    outbox.open(welcome);
    for (let i = 0; i < 10; i++) outbox.send(singleFrame("x".repeat(10)));
    expect(overflows()).toBe(1);
    expect(outbox.bytes).toBe(0);
    sink.drain();
    expect(sink.written.length).toBe(1);
  });

  test("OUT-4: a single frame over the bound passes alone", () => {
    const { sink, outbox, overflows } = setUp(20);
    outbox.open(welcome);
    sink.drain();
    outbox.send(singleFrame("x".repeat(50)));
    expect([sink.written.length, overflows()]).toEqual([2, 0]);
  });

  test("OUT-5: it tells when everything has left", () => {
    const { sink, outbox } = setUp();
    outbox.open(welcome);
    let empty = false;
    outbox.whenEmpty(() => {
      empty = true;
    });
    expect(empty).toBe(false);
    sink.drain();
    expect(empty).toBe(true);
  });
});
