/** For `npm run simulation -- compare`, which compares times and is therefore not one of the tests. */
import { defineConfig } from "vitest/config";

export default defineConfig({ test: { include: ["loadtest/simulation/compare.test.ts"], hookTimeout: 60_000 } });
