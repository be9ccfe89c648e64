/**
 * Captures the webhooks that another system sends, for `npm run compare`:
 *
 *   npm run tee -- --file sent.ndjson [--port 9100] [--host 127.0.0.1] [--forward https://customer.example/hooks]
 *
 * Give the other system the tee's address instead of the customer's. Each request is a line of the file, fsynced, before it is answered or
 * sent on. With --forward it goes to that URL with the same method, headers and bytes, the request's path behind that of the URL, and the
 * sender gets the answer; without it the answer is 200. A second line tells the answer's status. What cannot be captured is answered 503
 * and not sent on; a body of more than --max-body bytes (1048576) is answered 413. The file has at most --max-bytes (10737418240).
 * Exit code 1: it cannot listen, or write the file; 78: invalid argument.
 */
import { readArguments } from "../shared/runtime/command-line.ts";
import { integer, optional, port, text, url } from "../shared/runtime/setting-kinds.ts";
import { CaptureFile } from "./tee/capture-file.ts";
import { Forward } from "./tee/forward.ts";
import { TeeReceiver } from "./tee/receiver.ts";

const forwardTimeoutMs = 30_000;
const mebibyte = 1024 * 1024;

const given = readArguments({
  "--file": text(),
  "--host": text({ fallback: "127.0.0.1" }),
  "--port": port(9_100),
  "--forward": optional(url({ protocols: ["http:", "https:"], allows: ["path"] })),
  "--max-body": integer({ min: 1, max: 16 * mebibyte, fallback: mebibyte }),
  "--max-bytes": integer({ min: 1, max: 2 ** 43, fallback: 10_240 * mebibyte }),
});

const report = (message: string): void => void process.stderr.write(`${message}\n`);

try {
  const file = await CaptureFile.open(given["--file"], given["--max-bytes"]);
  if (file.cutBytes > 0) report(`${given["--file"]} ended in a line that was not written whole: cut off`);
  const target = given["--forward"];
  const forward = target === undefined ? undefined : new Forward(new URL(target), forwardTimeoutMs);
  const receiver = new TeeReceiver({ file, forward, maxBodyBytes: given["--max-body"], report });
  await receiver.start(given["--port"], given["--host"]);
  process.stdout.write(`tee listening on http://${given["--host"]}:${receiver.port}\n`);
  let isStopping = false;
  const stop = async (): Promise<void> => {
    // A second signal does not wait.
    if (isStopping) process.exit(1);
    isStopping = true;
    await receiver.stop();
    forward?.close();
    await file.close();
  };
  for (const signal of ["SIGINT", "SIGTERM"] as const) process.on(signal, () => void stop());
} catch (error) {
  report(error instanceof Error ? error.message : String(error));
  process.exit(1);
}
