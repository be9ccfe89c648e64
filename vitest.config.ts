import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    include: ["test/**/*.test.ts"],
    testTimeout: 30_000,
    hookTimeout: 60_000,
    retry: 0,
    // Tests mostly wait for processes and timeouts: two files at a time, whatever the number of cores, halve the time.
    maxWorkers: 2,
  },
});
