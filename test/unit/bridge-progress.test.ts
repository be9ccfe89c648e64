import { expect, test } from "vitest";
import { fleetIdOf, noCounts, progressUnder } from "../../private-api/bridges/progress.ts";
import { parseServerUrl } from "../../shared/redis/address.ts";
import type { BridgeRule } from "../../shared/rules/bridges.ts";

const rule: BridgeRule = { redis: "env:OLD", adapter: "streams", rooms: { "board-{id}": "board:{id}" } };
const fleetId = fleetIdOf(rule, parseServerUrl("redis://user:one@old.example"));
const stored = { identity: "0123456789abcdef", counts: noCounts, fleet: fleetId, cursor: "cursor", offset: "1-1" };

test("BRI-8: a bridge continues where it ended, but not a way that was off meanwhile", () => {
  expect(progressUnder({ rule, fleetId }, stored)).toEqual(stored);
  const { offset, ...withoutOffset } = stored;
  const { cursor, ...withoutCursor } = stored;
  expect([offset, cursor]).toEqual(["1-1", "cursor"]);
  expect(progressUnder({ rule: { ...rule, direction: "out" }, fleetId }, stored)).toEqual(withoutOffset);
  expect(progressUnder({ rule: { ...rule, direction: "in" }, fleetId }, stored)).toEqual(withoutCursor);
});

test("BRI-8: the offset holds for one stream only, whatever the password", () => {
  const idOf = (url: string, change: Partial<BridgeRule> = {}): string =>
    fleetIdOf({ ...rule, ...change }, parseServerUrl(url));
  expect(idOf("redis://user:other@old.example:6379/0", { key: "socket.io", namespace: "/" })).toBe(fleetId);
  const others = [
    idOf("redis://other.example"),
    idOf("redis://old.example/1"),
    idOf("redis://old.example", { key: "other" }),
    idOf("redis://old.example", { namespace: "/chat" }),
  ];
  expect(new Set([fleetId, ...others]).size).toBe(5);
  for (const other of others) {
    const { offset, cursor, fleet } = progressUnder({ rule, fleetId: other }, stored);
    expect([offset, cursor, fleet]).toEqual([undefined, "cursor", other]);
  }
});
