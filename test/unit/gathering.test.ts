/** When a dispatcher acts on what it gathers. */
import { expect, test } from "vitest";
import { Gathering } from "../../private-api/dispatch/gathering.ts";
import { eventually } from "../support/eventually.ts";

test("what happens within one turn of the event loop is acted on once, what follows again", async () => {
  let acts = 0;
  const gathering = new Gathering(
    () => acts++,
    () => 100,
  );
  for (const round of [1, 2]) {
    gathering.add();
    await Promise.resolve();
    gathering.add();
    expect(acts).toBe(round - 1);
    await eventually(() => acts === round, 1_000);
  }
});
