import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    include: ["test/**/*.test.ts"],
    // Most files wait for leases, timers and other processes: two at a time take little more CPU than one.
    maxWorkers: 2,
    // Both only end a test that hangs.
    testTimeout: 60_000,
    hookTimeout: 120_000,
    retry: 0,
  },
});
