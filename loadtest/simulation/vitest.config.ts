/** For `npm run simulation -- compare`: it compares times, so it is no part of the tests. */
import { defineConfig } from "vitest/config";

export default defineConfig({ test: { include: ["loadtest/simulation/compare.test.ts"], hookTimeout: 60_000 } });
