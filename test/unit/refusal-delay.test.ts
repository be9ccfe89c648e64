/** Delays that slow down peers which return at once. */
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { AddressPace } from "../../gateway/entrance/address-pace.ts";
import { RefusalDelay } from "../../shared/http/refusal-delay.ts";

beforeEach(() => {
  vi.useFakeTimers({ toFake: ["performance", "setTimeout", "clearTimeout"] });
});
afterEach(() => {
  vi.useRealTimers();
});

test("DOOR-7: LIM-15: a refusal comes half a second late; past the bound it comes at once", () => {
  const delay = new RefusalDelay(2);
  const refused: number[] = [];
  const refuse = (...numbers: number[]): void =>
    numbers.forEach((number) => delay.before(() => void refused.push(number)));
  refuse(1, 2, 3);
  expect(refused).toEqual([3]);
  vi.advanceTimersByTime(499);
  expect(refused).toEqual([3]);
  vi.advanceTimersByTime(1);
  expect(refused).toEqual([3, 1, 2]);
  refuse(4, 5);
  expect(refused).toHaveLength(3);
  vi.advanceTimersByTime(500);
  expect(refused).toEqual([3, 1, 2, 4, 5]);
});

/** @returns how many of `count` connections open at once. */
function openedAtOnce(pace: AddressPace, address: string, count: number): number {
  let opened = 0;
  for (let i = 0; i < count; i++) pace.arrive(address, performance.now(), () => opened++);
  return opened;
}

test("LIM-16: 200 connections of an address open at once, then 50 a second; others open late", () => {
  const pace = new AddressPace();
  let late = 0;
  expect(openedAtOnce(pace, "192.0.2.1", 200)).toBe(200);
  pace.arrive("192.0.2.1", performance.now(), () => late++);
  expect(late).toBe(0);
  expect(openedAtOnce(pace, "192.0.2.2", 200)).toBe(200);
  vi.advanceTimersByTime(500);
  expect(late).toBe(1);
  expect(openedAtOnce(pace, "192.0.2.1", 100)).toBe(25);
});

test("LIM-16: connections that begin a session do not count", () => {
  const pace = new AddressPace();
  for (let i = 0; i < 1_000; i++) {
    expect(openedAtOnce(pace, "2001:db8::1", 1)).toBe(1);
    pace.began("2001:db8::2", performance.now());
  }
  expect(openedAtOnce(pace, "2001:db8::3", 300)).toBe(200);
});

test("LIM-16: at most 1,000 connections wait; further ones do not wait", () => {
  const pace = new AddressPace();
  expect(openedAtOnce(pace, "192.0.2.1", 1_300)).toBe(200 + 100);
});
