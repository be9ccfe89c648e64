/** `npm run checker -- …` judges a deployment (check.ts); `npm run checker -- schedules …` runs fault schedules (schedules.ts). */
import { join } from "node:path";
import { runProgram } from "../rig/program.ts";

const [first, ...rest] = process.argv.slice(2);
if (first === "schedules") await runProgram(join(import.meta.dirname, "schedules.ts"), rest);
else await runProgram(join(import.meta.dirname, "check.ts"), process.argv.slice(2));
