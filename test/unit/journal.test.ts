/** The journal's files: order, durability, torn ends, bounds, positions. Real files in a folder of the test. */
import { copyFile, mkdir, mkdtemp, open, readdir, readFile, rm, stat, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { Journal, type JournalOptions } from "../../gateway/journal/journal.ts";
import { journalDirectory } from "../../gateway/journal/node-directory.ts";
import type { NewItem } from "../../shared/queues/contract.ts";
import { createLogger } from "../../shared/runtime/logging.ts";

const maxBytes = 1024 * 1024;
let root: string;
let log = "";
const logger = createLogger({ name: "test", level: "info", destination: { write: (line) => void (log += line) } });
let started: Journal[] = [];

beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), "tidegate-journal-"));
  log = "";
});
afterEach(async () => {
  await Promise.all(started.map(async (journal) => journal.stop()));
  started = [];
  await rm(root, { recursive: true, force: true });
});

async function start(options: Partial<JournalOptions> = {}): Promise<Journal> {
  const journal = new Journal({ directory: join(root, "node"), maxBytes, logger, ...options });
  started.push(journal);
  await journal.start();
  return journal;
}

/** What a killed process would leave. */
async function crashed(): Promise<string> {
  const left = join(root, "left");
  await rm(left, { recursive: true, force: true });
  await mkdir(left);
  for (const name of await readdir(join(root, "node"))) {
    if (name !== "owner") await copyFile(join(root, "node", name), join(left, name));
  }
  return left;
}

function item(n: number, data = `{"n":${n}}`): NewItem {
  const queue = { service: "hooks", tenant: "a tenant", key: "ключ\n" };
  return { queue, class: "messages", head: `{"id":"${n}"}`, data, source: "in", dedupeId: String(n) };
}

async function replay(journal: Journal, maxItems = 100): Promise<NewItem[]> {
  const items: NewItem[] = [];
  for (let batch = await journal.read(maxItems); batch; batch = await journal.read(maxItems)) {
    items.push(...batch.items);
    await journal.commit(batch);
  }
  return items;
}

async function segments(directory: string): Promise<string[]> {
  return (await readdir(directory)).filter((name) => name.endsWith(".journal")).sort();
}

test("JRN-1: what is appended is read in order, unchanged, by this process and by the next one", async () => {
  const first = await start();
  const items = [item(1), item(2, '"line\nbreak 😀"'), item(3, "")];
  for (const each of items) await first.append([each]);
  const left = await crashed();
  expect(await replay(first)).toEqual(items);
  const second = await start({ directory: left });
  expect(second.items).toBe(3);
  expect(await replay(second)).toEqual(items);
  expect([second.items, second.bytes, await segments(left)]).toEqual([0, 0, []]);
});

test("JRN-1: appends of one turn share an fsync, and resolve after it, in order", async () => {
  const events: string[] = [];
  const [began, syncing] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
  const journal = await start({
    sync: async (file) => {
      events.push("sync");
      began.resolve();
      await syncing.promise;
      await file.datasync();
      events.push("synced");
    },
  });
  const appends = [1, 2, 3].map(async (n) => {
    await journal.append([item(n)]);
    events.push(`resolved ${n}`);
  });
  await began.promise;
  await new Promise((resolve) => setImmediate(resolve));
  expect(events).toEqual(["sync"]);
  syncing.resolve();
  await Promise.all(appends);
  expect(events).toEqual(["sync", "synced", "resolved 1", "resolved 2", "resolved 3"]);
});

test("JRN-2: wherever a crash tears the file, whole records stay and the rest is cut off and logged", async () => {
  const journal = await start();
  const ends: number[] = [];
  for (const n of [1, 2, 3]) {
    await journal.append([item(n)]);
    ends.push(journal.bytes);
  }
  const left = await crashed();
  const [name = ""] = await segments(left);
  const whole = await readFile(join(left, name));
  for (let bytes = whole.length; bytes >= 0; bytes -= 7) {
    await writeFile(join(left, name), whole.subarray(0, bytes));
    await rm(join(left, "position"));
    log = "";
    const after = new Journal({ directory: left, maxBytes, logger });
    await after.start();
    const survivors = ends.filter((end) => end <= bytes).length;
    expect(after.items).toBe(survivors);
    expect((await replay(after)).map(({ dedupeId }) => dedupeId)).toEqual(["1", "2", "3"].slice(0, survivors));
    const isTorn = bytes > Math.max(19, ends[survivors - 1] ?? 0);
    expect(log.includes("cut off")).toBe(isTorn);
    await after.stop();
  }
});

test("JRN-2: a record whose checksum is wrong, or zeros, are never replayed", async () => {
  const journal = await start();
  for (const n of [1, 2]) await journal.append([item(n)]);
  for (const [from, bytes] of [
    [-3, Buffer.from("x")],
    [0, Buffer.alloc(4_096)],
  ] as const) {
    const left = await crashed();
    const [name = ""] = await segments(left);
    const path = join(left, name);
    const { size } = await stat(path);
    const file = await open(path, "r+");
    await file.write(bytes, 0, bytes.length, size + from);
    await file.close();
    const after = await start({ directory: left });
    expect((await replay(after)).map(({ dedupeId }) => dedupeId)).toEqual(from < 0 ? ["1"] : ["1", "2"]);
    expect(log).toContain("cut off");
    await after.stop();
  }
});

test("JRN-2: a file of another version prevents the start and stays", async () => {
  const left = join(root, "node");
  await mkdir(left);
  await writeFile(join(left, "000000000001.journal"), "tidegate journal 1\nsomething");
  await expect(new Journal({ directory: left, maxBytes, logger }).start()).rejects.toThrow("another version");
  expect(await segments(left)).toEqual(["000000000001.journal"]);
});

test("JRN-3: past the bound an append is refused with a time to retry, and what is there stays", async () => {
  const journal = await start({ maxBytes: 10_000 });
  const accepted: string[] = [];
  for (let n = 1; n <= 20; n++) {
    try {
      await journal.append([item(n, "x".repeat(1_000))]);
      accepted.push(String(n));
    } catch (error) {
      expect(error).toMatchObject({ code: "broker_unavailable", options: { retryAfterMs: 1_000 } });
    }
  }
  expect(accepted.length).toBeGreaterThan(5);
  expect(accepted.length).toBeLessThan(10);
  expect(journal.bytes).toBeLessThanOrEqual(10_000 + 19 * 16);
  const batch = await journal.read(1);
  if (batch) await journal.commit(batch);
  await journal.append([item(21)]);
  expect((await replay(journal)).map(({ dedupeId }) => dedupeId)).toEqual([...accepted.slice(1), "21"]);
});

test("JRN-3: where the disk fails nothing of the group is kept, and what was acknowledged stays", async () => {
  let isFull = false;
  const journal = await start({
    sync: async (file) => {
      if (isFull) throw Object.assign(new Error("no space left on device"), { code: "ENOSPC" });
      await file.datasync();
    },
  });
  await journal.append([item(1)]);
  const { bytes } = journal;
  isFull = true;
  const failed = await Promise.allSettled([journal.append([item(2)]), journal.append([item(3)])]);
  expect(failed.map(({ status }) => status)).toEqual(["rejected", "rejected"]);
  await expect(journal.append([item(4)])).rejects.toMatchObject({ code: "broker_unavailable" });
  expect([journal.items, journal.bytes]).toEqual([1, bytes]);
  isFull = false;
  await journal.append([item(5)]);
  const after = await start({ directory: await crashed() });
  expect((await replay(after)).map(({ dedupeId }) => dedupeId)).toEqual(["1", "5"]);
  expect(log.match(/journal cannot be written/g)).toHaveLength(1);
});

test("JRN-5: after a kill the replay continues behind the last batch that was stored", async () => {
  const journal = await start();
  await journal.append(Array.from({ length: 10 }, (_, n) => item(n)));
  for (let n = 0; n < 2; n++) {
    const batch = await journal.read(3);
    if (batch) await journal.commit(batch);
  }
  const left = await crashed();
  const after = await start({ directory: left });
  expect(after.items).toBe(4);
  expect((await replay(after)).map(({ dedupeId }) => dedupeId)).toEqual(["6", "7", "8", "9"]);
  await after.stop();
  // A position that is spoilt, or that names the middle of a record, repeats everything.
  for (const position of ["", '{"segment":1,"offset":25}']) {
    const again = await crashed();
    await writeFile(join(again, "position"), position);
    const repeated = await start({ directory: again });
    expect(await replay(repeated)).toHaveLength(10);
    await repeated.stop();
  }
});

test("JRN-5: segments are removed once replayed, and numbers never come again", async () => {
  const journal = await start({ maxBytes: 64 * 1024 });
  const directory = join(root, "node");
  const data = "x".repeat(3_000);
  for (let n = 1; n <= 12; n++) await journal.append([item(n, data)]);
  const before = await segments(directory);
  expect(before.length).toBeGreaterThan(3);
  const batch = await journal.read(2);
  if (batch) await journal.commit(batch);
  await journal.read(1);
  expect(await segments(directory)).toEqual(before.slice(1));
  await replay(journal);
  expect(await segments(directory)).toEqual([]);
  await journal.stop();
  const after = await start();
  await after.append([item(13)]);
  const [name = ""] = await segments(directory);
  expect(name > (before.at(-1) ?? "")).toBe(true);
});

test("JRN-7: a second process, or a second gateway of the same name, does not get the directory", async () => {
  const first = await start();
  const second = new Journal({ directory: first.directory, maxBytes, logger });
  await expect(second.start()).rejects.toThrow("GATEWAY_NODE");
  await first.stop();
  await second.start();
  await second.stop();
});

test("JRN-7: each node has a folder of its own, whatever its name", () => {
  const names = ["node-1", "node-2", "..", "a/b", "a%2Fb", "x".repeat(128), "x".repeat(127), "ü".repeat(100)];
  const directories = names.map((name) => journalDirectory("/journal", name));
  expect(new Set(directories).size).toBe(names.length);
  for (const directory of directories) expect(directory).toMatch(/^\/journal\/[\w%-]{1,32}$/);
  expect(directories[0]).toBe("/journal/node-1");
});

test("JRN-2: a segment that a crash left without a record is removed", async () => {
  const journal = await start();
  await journal.append([item(1)]);
  const left = await crashed();
  await truncate(join(left, "000000000001.journal"), 7);
  const after = await start({ directory: left });
  expect([after.items, await segments(left)]).toEqual([0, []]);
});
