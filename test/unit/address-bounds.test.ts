/** What one address may use, and the reconnect times that clients of one address get. */
import { describe, expect, test } from "vitest";
import { AddressLimits } from "../../gateway/entrance/address-limits.ts";
import { ByAddress } from "../../gateway/entrance/by-address.ts";
import { FairBudget } from "../../gateway/entrance/fair-budget.ts";
import { ReconnectTimes } from "../../gateway/entrance/reconnect-times.ts";
import { networkOf } from "../../shared/http/network.ts";

test("LIM-5: bounds hold per address, of IPv6 per /64, until they have recovered", () => {
  const limits = new AddressLimits({ connections: 2, connectsPerSecond: 3 });
  const two = ["2001:db8::1", "2001:db8::2"];
  for (const address of two) {
    expect(limits.checkMs(address, 0)).toBeUndefined();
    limits.takeSeat(address);
  }
  expect(limits.checkMs("2001:db8:0:0:ffff::3", 0)).toBe(0);
  expect(limits.checkMs("2001:db8::4", 0)).toBe(334);
  expect(limits.checkMs("2001:db8:0:1::1", 0)).toBeUndefined();
  limits.giveUpSeat("2001:db8::2");
  expect(limits.checkMs("2001:db8::5", 1_000)).toBeUndefined();
  for (let i = 0; i < 1_000; i++) expect(limits.checkMs(`10.0.${i >> 8}.${i & 255}`, 2_000)).toBeUndefined();
});

test("LIM-5: past 50,000 addresses the rate of the oldest one is forgotten", () => {
  const limits = new AddressLimits({ connections: 0, connectsPerSecond: 1 });
  expect([limits.checkMs("10.0.0.1", 0), limits.checkMs("10.0.0.1", 0)]).toEqual([undefined, 1_000]);
  for (let i = 0; i < 50_000; i++) limits.checkMs(`10.1.${i >> 8}.${i & 255}`, 0);
  expect(limits.checkMs("10.0.0.1", 0)).toBeUndefined();
});

test("ADM-3: no reconnect time is more than 10 min ahead, however many clients are refused", () => {
  const times = new ReconnectTimes();
  const waits = Array.from({ length: 7_000 }, () => times.take(0, { perSecond: 10, notBeforeMs: 5_000 }));
  expect(Math.max(...waits)).toBeLessThanOrEqual(600_000);
  // Past the horizon, times are random in its second half.
  const beyond = waits.slice(6_000);
  expect(Math.min(...beyond)).toBeGreaterThanOrEqual(300_000);
  expect(new Set(beyond).size).toBeGreaterThan(900);
});

test.for([
  ["127.0.0.1", "127.0.0.1"],
  ["::ffff:10.0.0.1", "10.0.0.1"],
  ["::1", "0:0:0:0::/64"],
  ["2001:db8::1", "2001:db8:0:0::/64"],
  ["2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"],
  ["fe80::1%eth0", "fe80:0:0:0::/64"],
])("LIM-5: %s counts as %s", ([address = "", network]) => {
  expect(networkOf(address)).toBe(network);
});

describe("reconnect times and addresses", () => {
  const perSecond = 100;
  const waits = (times: ReconnectTimes, count: number, address: (i: number) => string, now = 0): number[] =>
    Array.from({ length: count }, (_, i) => times.take(now, { perSecond, notBeforeMs: 1_000, address: address(i) }));

  test("RET-1: reconnect times follow one another at the rate, each up to 5 % further away", () => {
    const [least, most] = [0, 1 - Number.EPSILON].map((random) =>
      waits(new ReconnectTimes({ random: () => random }), 200, (i) => `192.0.2.${i}`),
    );
    expect(least).toEqual(Array.from({ length: 200 }, (_, i) => 1_000 + 10 * i));
    for (const [i, waitMs] of (least ?? []).entries()) expect((most?.[i] ?? 0) / waitMs).toBeCloseTo(1.05, 2);
  });

  test("RET-1: addresses that are refused for the first time keep to the rate, however long the line is", () => {
    const times = waits(new ReconnectTimes({ random: () => 0 }), 2_000, (i) => `198.18.${i >> 8}.${i & 255}`);
    expect(times).toEqual(Array.from({ length: 2_000 }, (_, i) => 1_000 + 10 * i));
  });

  test("RET-1: an address that is refused repeatedly delays others by 5 s at most", () => {
    const times = new ReconnectTimes();
    waits(times, 10_000, () => "192.0.2.1");
    expect(times.take(0, { perSecond, notBeforeMs: 1_000, address: "192.0.2.2" })).toBeLessThanOrEqual(6_310);
    // A hundred more addresses have one place each.
    waits(times, 10_000, (i) => `2001:db8:0:${i % 100}::${i}`);
    expect(times.take(0, { perSecond, notBeforeMs: 1_000, address: "192.0.2.3" })).toBeLessThanOrEqual(7_370);
    // Ten minutes later, all these times have passed.
    waits(times, 10_000, () => "192.0.2.1", 700_000);
    expect(times.take(700_000, { perSecond, notBeforeMs: 1_000, address: "192.0.2.2" })).toBeLessThanOrEqual(6_310);
  });

  test("RET-1: the clients of one address are spread over the time that their admission takes", () => {
    const times = new ReconnectTimes({ random: () => 0 });
    waits(times, 500, (i) => `192.0.2.${i % 250}`);
    const crowd = waits(times, 3_000, () => "198.51.100.1").sort((one, other) => one - other);
    expect(crowd.at(-1)).toBeGreaterThan(30_000);
    for (let i = 100; i < crowd.length; i++) expect((crowd[i] ?? 0) - (crowd[i - 100] ?? 0)).toBeGreaterThan(950);
    // Two crowds share the rate.
    const other = waits(times, 1_000, () => "198.51.100.2").sort((one, next) => one - next);
    expect((other.at(-1) ?? 0) - (other[1] ?? 0)).toBeGreaterThan(19_000);
  });
});

describe("a budget that addresses share", () => {
  const taken = (budget: FairBudget, count: number, address: string, now: number): number =>
    Array.from({ length: count }, () => budget.take(address, now)).filter(Boolean).length;

  test("BOOT-8: a lone address uses most of the budget; modest addresses are served beside it", () => {
    const budget = new FairBudget(100, 0);
    expect(taken(budget, 1_000, "192.0.2.1", 0)).toBe(80);
    expect(taken(budget, 5, "192.0.2.2", 0)).toBe(5);
    let [greedy, modest] = [0, 0];
    for (let now = 10; now <= 10_000; now += 10) {
      greedy += taken(budget, 10, "192.0.2.1", now);
      if (now % 200 === 0) modest += taken(budget, 1, `2001:db8:0:${now}::1`, now);
    }
    expect(modest).toBe(50);
    expect(greedy).toBeGreaterThan(900);
    expect(greedy + modest).toBeLessThanOrEqual(1_020);
  });

  test("BOOT-8: extra costs of an address are also charged to its own part", () => {
    const budget = new FairBudget(100, 0);
    for (let now = 0; now < 10_000; now += 10) {
      if (budget.take("192.0.2.1", now)) budget.owe("192.0.2.1", 4, now);
    }
    expect(taken(budget, 10, "192.0.2.2", 10_000)).toBe(10);
  });
});

test("RET-2: past 10,000 addresses the oldest one counts as new", () => {
  const seen = new ByAddress<{ at: number }>({ isOver: ({ at }, now) => now > at + 1_000 });
  const first = seen.of("10.0.0.1", 0, () => ({ at: 0 }));
  expect(seen.of("10.0.0.1", 0, () => ({ at: 0 }))).toBe(first);
  for (let i = 0; i < 10_000; i++) seen.of(`10.1.${i >> 8}.${i & 255}`, 0, () => ({ at: 0 }));
  expect(seen.of("10.0.0.1", 0, () => ({ at: 0 }))).not.toBe(first);
});
