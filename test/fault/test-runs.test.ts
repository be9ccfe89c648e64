/** What a run of the tests leaves behind where a set-up fails, or a worker or the run itself is killed: nothing. */
import { existsSync } from "node:fs";
import { rm } from "node:fs/promises";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { basename } from "node:path";
import { expect, test } from "vitest";
import { eventually } from "../support/eventually.ts";
import { type Spawned, spawnProcess } from "../support/processes.ts";

interface Run {
  readonly spawned: Spawned;
  /** Where its files are. */
  readonly folder: string;
  /** Of the Redis that the set-up has started. */
  readonly port: number;
}

/** @param ending of its worker, once the set-up has started Redis. */
async function startRun(ending: "throws" | "exits" | "killed" | "waits"): Promise<Run> {
  const spawned = spawnProcess(process.execPath, ["test/support/ended-set-up.ts", ending]);
  const after = async (word: string): Promise<string> => (await spawned.printed(`${word} `)).slice(word.length + 1);
  return { spawned, folder: await after("folder"), port: Number(await after("redis")) };
}

async function listens(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, "127.0.0.1");
    socket.once("connect", () => resolve(true)).once("error", () => resolve(false));
    socket.once("connect", () => socket.destroy());
  });
}

test.each(["throws", "exits", "killed"] as const)(
  "programs and files of a set-up are gone after the run where the worker ends so: %s",
  async (ending) => {
    const { spawned, folder, port } = await startRun(ending);
    expect(await spawned.exited).toBe(0);
    await eventually(async () => !(await listens(port)));
    expect(existsSync(folder)).toBe(false);
  },
);

test("a run that is killed ends its worker, and what the worker has started", async () => {
  const { spawned, folder, port } = await startRun("waits");
  expect(await listens(port)).toBe(true);
  spawned.kill("SIGKILL");
  await eventually(async () => !(await listens(port)));
  await rm(folder, { recursive: true });
});

test("the workers of this run keep their files in its folder", () => {
  expect(basename(tmpdir())).toMatch(/^tidegate-test-/);
});
