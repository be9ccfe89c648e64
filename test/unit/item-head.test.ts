/** What the heads of a session's items have in common. */
import { expect, test } from "vitest";
import { formatHead, parseHead } from "../../shared/queues/item-head.ts";

test.for([
  { length: 500, times: 1 },
  { length: 2_000, times: 3 },
])("claims of $length characters become text $times times for three items", ({ length, times }) => {
  let written = 0;
  const note = "x".repeat(length);
  const toJSON = (): string => {
    written++;
    return note;
  };
  const identity = { user: "ada", sessionId: "s", claims: { note: { toJSON } } };
  const about = { event: "doc.edit", source: "/tidegate/socket", path: "/edits", at: 1, traceparent: "00" };
  for (const id of ["a", "b", "c"]) {
    expect(parseHead(formatHead({ ...about, id }, identity))).toMatchObject({ ...about, id, claims: { note } });
  }
  expect(written).toBe(times);
});
