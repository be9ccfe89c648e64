import { defineConfig } from "vitest/config";
import { BaseSequencer, type TestSpecification } from "vitest/node";

/** Folders whose files take longest, first: a long file that begins last would leave a worker idle. */
const slowestFirst = ["fault", "e2e", "integration", "contract"];

class SlowestFolderFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const rank = ({ moduleId }: TestSpecification): number => {
      const at = slowestFirst.findIndex((folder) => moduleId.includes(`/test/${folder}/`));
      return at === -1 ? slowestFirst.length : at;
    };
    return (await super.sort(files)).toSorted((one, other) => rank(one) - rank(other));
  }
}

export default defineConfig({
  test: {
    include: ["test/**/*.test.ts"],
    globalSetup: ["test/support/run-folder.ts"],
    // Most files wait for leases, timers and other processes: two at a time would leave half of two cores idle.
    maxWorkers: 3,
    sequence: { sequencer: SlowestFolderFirst },
    // Both only end a test that hangs.
    testTimeout: 180_000,
    hookTimeout: 300_000,
    retry: 0,
  },
});
