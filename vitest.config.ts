import { defineConfig } from "vitest/config";
import { BaseSequencer, type TestSpecification } from "vitest/node";

/** Files that take half a minute and longer, then folders, longest first: a long file that begins last would leave workers idle. */
const longestFirst = [
  "fault/schedules.test.ts",
  "fault/cells-programs.test.ts",
  "fault/session-events.test.ts",
  "e2e/board.test.ts",
  "fault/order-schedules.test.ts",
  "fault/sessions.test.ts",
  "fault/fuzz.test.ts",
  "fault/journal.test.ts",
  "fault/cluster.test.ts",
  "fault/attack.test.ts",
  "integration/admission.test.ts",
  "integration/first-service.test.ts",
  "fault/webhook-provider.test.ts",
  "fault/sql-sources.test.ts",
  "fault/endpoints.test.ts",
  "fault/queues-bad-input.test.ts",
  "fault/",
  "e2e/",
  "integration/",
  "contract/",
];

class LongestFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const rank = ({ moduleId }: TestSpecification): number => {
      const at = longestFirst.findIndex((begin) => moduleId.includes(`/test/${begin}`));
      return at === -1 ? longestFirst.length : at;
    };
    return (await super.sort(files)).toSorted((one, other) => rank(one) - rank(other));
  }
}

export default defineConfig({
  test: {
    include: ["test/**/*.test.ts"],
    globalSetup: ["test/support/run-folder.ts"],
    // Most files wait for leases, timers and other processes: two at a time would leave half of two cores idle.
    maxWorkers: 4,
    sequence: { sequencer: LongestFirst },
    // Both only end a test that hangs.
    testTimeout: 180_000,
    hookTimeout: 300_000,
    retry: 0,
  },
});
