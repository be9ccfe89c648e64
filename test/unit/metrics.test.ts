import { expect, test } from "vitest";
import { Metrics } from "../../shared/runtime/metrics.ts";

test("a tally keeps its count across scrapes, apart from tallies with other labels", async () => {
  const metrics = new Metrics();
  const tallyOf = metrics.tallies("sent_total", "What was sent", ["service", "outcome"]);
  const lines = async (): Promise<string[]> =>
    (await metrics.render()).split("\n").filter((line) => line.startsWith("tidegate_sent_total"));
  expect(await lines()).toEqual([]);
  const done = tallyOf({ service: "a", outcome: "done" });
  done.count += 2;
  tallyOf({ service: "a", outcome: "failed" }).count++;
  tallyOf({ service: "b", outcome: "done" }).count += 7;
  const others = [
    'tidegate_sent_total{service="a",outcome="failed"} 1',
    'tidegate_sent_total{service="b",outcome="done"} 7',
  ];
  expect(await lines()).toEqual(['tidegate_sent_total{service="a",outcome="done"} 2', ...others]);
  expect(tallyOf({ outcome: "done", service: "a" })).toBe(done);
  done.count += 2;
  expect(await lines()).toEqual(['tidegate_sent_total{service="a",outcome="done"} 4', ...others]);
});
