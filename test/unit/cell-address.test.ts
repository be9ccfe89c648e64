import { expect, test } from "vitest";
import { parseCells } from "../../shared/redis/settings.ts";

test("CELL-20: an entry of REDIS_CELLS names a server, all sentinels, or servers of a cluster", () => {
  const cells = parseCells([
    "a=redis://one:6379/2",
    "b=redis+sentinel://s1:26379;[::1]:26380/main/2",
    "c=rediss+sentinel://user:p%40ss@s1:26379;s2:26379/main/2",
  ]);
  expect([...cells]).toEqual([
    ["a", { kind: "standalone", url: "redis://one:6379/2" }],
    ["b", { kind: "sentinel", sentinels: ["s1:26379", "[::1]:26380"], master: "redis://main/2" }],
    [
      "c",
      {
        kind: "sentinel",
        sentinels: ["rediss://s1:26379", "rediss://s2:26379"],
        master: "rediss://user:p%40ss@main/2",
      },
    ],
  ]);
  expect([
    ...parseCells(["a=redis://one", "b=redis+cluster://c1:7000;[::1]:7001", "c=rediss+cluster://u:p%40ss@c3:7000"]),
  ]).toEqual([
    ["a", { kind: "standalone", url: "redis://one" }],
    ["b", { kind: "cluster", nodes: ["redis://c1:7000", "redis://[::1]:7001"] }],
    ["c", { kind: "cluster", nodes: ["rediss://u:p%40ss@c3:7000"] }],
  ]);
});

test("CELL-20: a wrong entry says what to change, and quotes no password", () => {
  const refusal = (...entries: string[]): string => {
    try {
      parseCells(entries);
    } catch (error) {
      return (error as Error).message;
    }
    return "accepted";
  };
  const ofCluster = "redis[s]+cluster://user:password@host:port;host:port";
  const forms = `redis[s]://…, redis[s]+sentinel://user:password@host:port;host:port/name/database or ${ofCluster}`;
  expect(refusal("a=redis+sentinel://u:secret@s1:26379")).toBe(`entry 1: must be ${forms}`);
  expect(refusal("a=redis+other://u:secret@s1:26379")).toBe(`entry 1: must be ${forms}`);
  expect(refusal("a=redis+cluster://u:secret@s1:26379/1")).toBe(`entry 1: must be ${ofCluster}, without a database`);
  expect(refusal("a=redis+cluster://c1:1;c2:1", "b=redis+cluster://c2:1;c1:1")).toContain("another cell has this");
  expect(refusal("a=redis+cluster://c1:1", "b=redis://s1/3")).toContain("must use the same database number");
  expect(refusal("a=redis+sentinel://s1/main")).toContain("entry 1: entry 1: must be host:port");
  expect(refusal("a=redis+sentinel://s1:1/main", "b=redis+sentinel://s1:1/main")).toContain("another cell has this");
  expect(refusal("a=redis+sentinel://s1:1/main", "b=redis://s1/3")).toContain("must use the same database number");
});
