/**
 * A run of the tests in small, for the test of what one leaves behind: a worker whose set-up starts Redis, and then ends.
 *
 *   node test/support/ended-set-up.ts throws | exits | killed | waits
 */
import { tmpdir } from "node:os";
import { spawnProcess } from "./processes.ts";
import { startRedis } from "./redis.ts";
import { setup } from "./run-folder.ts";

const endings: Record<string, () => void> = {
  throws: () => {
    throw new Error("the set-up failed");
  },
  exits: () => process.exit(1),
  killed: () => process.kill(process.pid, "SIGKILL"),
  waits: () => undefined,
};
const [ending = "", role = "run"] = process.argv.slice(2);

if (role === "run") {
  setup();
  process.stdout.write(`folder ${tmpdir()}\n`);
  const worker = spawnProcess(process.execPath, [import.meta.filename, ending, "worker"]);
  process.stdout.write(`${await worker.printed("redis ")}\n`);
  await worker.exited;
} else {
  const { port } = await startRedis();
  process.stdout.write(`redis ${port}\n`);
  endings[ending]?.();
}
