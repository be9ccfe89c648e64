import { expect, test } from "vitest";
import { InputBudget } from "../../gateway/engine/input-budget.ts";

function ofSession(): InputBudget {
  const budget = new InputBudget(1_000);
  budget.beginSession();
  return budget;
}

test("LIM-8: a hundred controls pass at once, then ten a second", () => {
  const budget = ofSession();
  for (let i = 0; i < 100; i++) expect(budget.takeControl(0)).toBeUndefined();
  expect(budget.takeControl(0)).toBe("controls");
  const steady = ofSession();
  for (let now = 0; now < 600_000; now += 100) expect(steady.takeControl(now)).toBeUndefined();
  for (let i = 0; i < 10; i++) expect(budget.takeControl(1_100)).toBeUndefined();
  expect(budget.takeControl(1_100)).toBe("controls");
});

test("LIM-9: a stranger may send 64 KiB and 20 packets in a polling request, not one more", () => {
  const budget = new InputBudget(1_000_000);
  expect(budget.takeMessage(65_536)).toBeUndefined();
  expect(budget.takeMessage(65_537)).toBe("entering");
  expect(budget.takeBytes(65_536, 0)).toBeUndefined();
  expect(budget.takeBytes(1, 0)).toBe("entering");
  expect(budget.maxPackets).toBe(20);
  budget.beginSession();
  expect(budget.maxPackets).toBe(1_000);
});

test("LIM-9: the bounds of a stranger end when its session begins", () => {
  const budget = new InputBudget(1_000_000);
  for (let i = 0; i < 20; i++) expect(budget.takeFrame()).toBeUndefined();
  expect(budget.takeFrame()).toBe("entering");
  expect(budget.takeMessage(70_000)).toBe("entering");
  expect(budget.takeBytes(70_000, 0)).toBe("entering");
  budget.beginSession();
  expect(budget.takeFrame()).toBeUndefined();
  expect(budget.takeMessage(70_000)).toBeUndefined();
  expect(budget.takeBytes(70_000, 0)).toBeUndefined();
});

test("LIM-10: twice the rate of bytes is read at once, the rest at the rate", () => {
  const budget = ofSession();
  expect(budget.takeBytes(2_000, 0)).toBeUndefined();
  expect(budget.pauseMs).toBe(0);
  budget.takeBytes(500, 0);
  expect(budget.pauseMs).toBe(500);
  budget.takeBytes(500, 500);
  expect(budget.pauseMs).toBe(500);
  budget.takeBytes(0, 3_500);
  expect(budget.pauseMs).toBe(0);
});

test("LIM-7: five CONNECT packets pass, at any time", () => {
  const budget = ofSession();
  for (let i = 0; i < 5; i++) expect(budget.takeConnect()).toBeUndefined();
  expect(budget.takeConnect()).toBe("connects");
});
