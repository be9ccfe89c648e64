import { expect, onTestFinished, test } from "vitest";
import { CommandWindow } from "../../shared/redis/command-window.ts";

const MiB = 1024 * 1024;

function opened(): CommandWindow {
  const window = new CommandWindow();
  onTestFinished(() => window.stop());
  return window;
}

const refused = expect.objectContaining({ code: "broker_unavailable" }) as Error;

test("STALL-1: at most 20,000 commands wait for one primary, and each answer makes room for one", () => {
  const window = opened();
  for (let i = 0; i < 20_000; i++) window.enter(1);
  expect(() => window.enter(1)).toThrow(refused);
  window.leave(1, true);
  window.enter(1);
  expect(() => window.enter(1)).toThrow(refused);
  expect(window.commands).toBe(20_000);
});

test("STALL-1: at most 32 MiB of commands wait for one primary", () => {
  const window = opened();
  window.enter(31 * MiB);
  window.enter(MiB);
  expect(() => window.enter(1)).toThrow(refused);
  window.leave(MiB, false);
  window.enter(1);
  expect(() => window.enter(MiB)).toThrow(refused);
});
