/** One request and its answer, while this process does not run. */
import { Worker } from "node:worker_threads";
import { Agent } from "undici";
import { expect, onTestFinished, test } from "vitest";
import { exchange } from "../../shared/services/exchange.ts";
import { eventually } from "../support/eventually.ts";

/** A service in a thread of its own. `steps[0]` is 1 once it has the request, is set to 2 to have it answered, and 3 once that is done. */
const service = `
const { workerData: steps, parentPort } = require("node:worker_threads");
const server = require("node:http").createServer((request, response) => {
  request.resume().on("end", () => {
    Atomics.store(steps, 0, 1);
    Atomics.wait(steps, 0, 1);
    response.end("{}", () => {
      Atomics.store(steps, 0, 3);
      Atomics.notify(steps, 0);
    });
  });
});
server.listen(0, "127.0.0.1", () => parentPort.postMessage(server.address().port));
`;

test("DISP-13: an answer that arrived in time counts, also where the process was frozen until after the deadline", async () => {
  const steps = new Int32Array(new SharedArrayBuffer(4));
  const worker = new Worker(service, { eval: true, workerData: steps });
  const dispatcher = new Agent();
  onTestFinished(async () => {
    await dispatcher.destroy();
    await worker.terminate();
  });
  const port = await new Promise((resolve) => worker.once("message", resolve));
  const timeoutMs = 2_000;
  const from = performance.now();
  const result = exchange(dispatcher, {
    ...{ url: `http://127.0.0.1:${String(port)}/`, headers: {}, body: "{}", timeoutMs },
    makeRoom: async () => true,
  });
  await eventually(() => Atomics.load(steps, 0) === 1);
  // Timers come next in this turn of the event loop, and sockets after them.
  await new Promise((resolve) => setImmediate(resolve));
  // From here on nothing runs in this thread, until the deadline has passed.
  Atomics.store(steps, 0, 2);
  Atomics.notify(steps, 0);
  Atomics.wait(steps, 0, 2);
  const never = new Int32Array(new SharedArrayBuffer(4));
  Atomics.wait(never, 0, 0, timeoutMs + 1 - (performance.now() - from));
  expect(await result).toMatchObject({ kind: "answered", status: 200 });
});
