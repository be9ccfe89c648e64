import { expect, test } from "vitest";
import { Metrics } from "../../shared/runtime/metrics.ts";

test("a tally counts on between and after scrapes, for its labels alone", async () => {
  const metrics = new Metrics();
  const tallyOf = metrics.tallies("sent_total", "What was sent", ["service", "outcome"]);
  const lines = async (): Promise<string[]> =>
    (await metrics.render()).split("\n").filter((line) => line.startsWith("tidegate_sent_total"));
  expect(await lines()).toEqual([]);
  const done = tallyOf({ service: "a", outcome: "done" });
  done.count += 2;
  tallyOf({ service: "a", outcome: "failed" }).count++;
  const first = ['tidegate_sent_total{service="a",outcome="failed"} 1'];
  expect(await lines()).toEqual(['tidegate_sent_total{service="a",outcome="done"} 2', ...first]);
  tallyOf({ outcome: "done", service: "a" }).count++;
  done.count++;
  expect(await lines()).toEqual(['tidegate_sent_total{service="a",outcome="done"} 4', ...first]);
});
