/**
 * `npm run checker -- …` judges a deployment (check.ts), `-- order …` its keyed queues (../order/check.ts). `-- schedules …` and
 * `-- order-schedules …`, `-- endpoint-schedules …` and `-- sql-schedules …` run fault schedules (schedules.ts, ../order/schedules.ts,
 * ../endpoints/schedules.ts, ../sql-sources/schedules.ts).
 */
import { join } from "node:path";
import { runProgram } from "../rig/program.ts";

const programs: Readonly<Record<string, string>> = {
  schedules: "schedules.ts",
  order: "../order/check.ts",
  "order-schedules": "../order/schedules.ts",
  "endpoint-schedules": "../endpoints/schedules.ts",
  "sql-schedules": "../sql-sources/schedules.ts",
};
const [first = "", ...rest] = process.argv.slice(2);
const named = programs[first];
await runProgram(join(import.meta.dirname, named ?? "check.ts"), named === undefined ? process.argv.slice(2) : rest);
