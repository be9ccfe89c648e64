import { describe, expect, test } from "vitest";
import { Tally } from "../../loadtest/checks/tally.ts";
import { Histogram } from "../../loadtest/checks/histogram.ts";
import { largestWork, MeasuredCurve } from "../../loadtest/checks/measured-curve.ts";
import { Sequence } from "../../loadtest/checks/sequence.ts";

describe("a load client's record of a channel", () => {
  test("a missing publication is lost, until it arrives late", () => {
    const sequence = new Sequence(10);
    for (const offset of [11, 14]) sequence.take(offset);
    expect(sequence).toMatchObject({ lost: 2, reordered: 0, received: 2, reached: 14 });
    expect(sequence.take(12)).toBe(true);
    expect(sequence).toMatchObject({ lost: 1, reordered: 1, received: 3 });
  });

  test("a repeated publication is doubled", () => {
    const sequence = new Sequence(10);
    expect([11, 11, 10].map((offset) => sequence.take(offset))).toEqual([true, false, false]);
    expect(sequence).toMatchObject({ doubled: 2, received: 1, lost: 0 });
  });

  test("a jump announced by the publication is no loss", () => {
    const sequence = new Sequence(10);
    sequence.take(100, 10);
    expect(sequence).toMatchObject({ lost: 0, reached: 100 });
  });

  test("an ack with a position beyond its publications has lost the rest", () => {
    const sequence = new Sequence(10);
    sequence.take(11);
    sequence.standAt(13);
    expect(sequence).toMatchObject({ lost: 2, reached: 13 });
  });

  test("publications before a resync are signalled, not lost", () => {
    const sequence = new Sequence(10);
    sequence.resync(50);
    sequence.take(51);
    expect(sequence).toMatchObject({ lost: 0, signalled: 1, received: 1 });
  });
});

describe("combined figures", () => {
  test("a percentile is within one percent, and the longest is exact", () => {
    const [one, other, whole] = [new Histogram(), new Histogram(), new Histogram()];
    for (let ms = 1; ms <= 1_000; ms++) (ms % 2 ? one : other).add(ms);
    for (const part of [one, other]) whole.merge(part.toJSON());
    expect(whole.count).toBe(1_000);
    expect(Math.abs(whole.percentile(0.99) - 990)).toBeLessThan(11);
    expect(whole.percentile(1)).toBe(1_000);
    expect(whole.max).toBe(1_000);
  });

  test("counts and durations are read by the parts of their keys", () => {
    const tally = new Tally();
    tally.count("lost/crash/sdk/node-1", 3);
    tally.count("lost/crash/stock/node-2");
    tally.count("lost/after/sdk/node-2");
    tally.duration("away/crash/sdk", 70);
    const whole = new Tally();
    for (const part of [tally, tally]) whole.merge(part.toJSON());
    expect(whole.total("lost/crash/*/*")).toBe(8);
    expect(whole.total("lost/*/*/node-2")).toBe(4);
    expect(whole.total("lost/crash/*")).toBe(0);
    expect(whole.durations("away/*/sdk").count).toBe(2);
  });

  test("the peak of welcomes is the maximum over ten consecutive tenths of a second", () => {
    const tally = new Tally();
    for (const atMs of [0, 950, 1_000, 1_850, 5_000]) tally.welcome(atMs);
    expect(tally.peakWelcomesPerSecond(0)).toBe(3);
    expect(tally.peakWelcomesPerSecond(4_000)).toBe(1);
  });

  test("the curve is linear between two steps and beyond the last", () => {
    const curve = new MeasuredCurve([
      [0, 1],
      [10, 2],
      [20, 6],
    ]);
    expect([0, 5, 10, 15, 30].map((work) => curve.at(work))).toEqual([1, 1.5, 2, 4, 10]);
    expect(largestWork((work) => curve.at(work) <= 4, 100)).toBeCloseTo(15, 1);
  });
});
