import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { createServer } from "node:net";

/** Below those that the system gives to outgoing connections, which would take what was free a moment ago. */
const firstPort = 10_000;
const lastPort = 31_999;

let nextPort = firstPort + Math.floor(Math.random() * (lastPort - firstPort));

/**
 * A port that is free, for programs that cannot be given port 0. Ports come in turn from a random one on: a process gets none
 * twice while the first program has not opened it yet, and processes that run at the same time get others.
 */
export async function freePort(): Promise<number> {
  for (;;) {
    const port = nextPort;
    nextPort = port < lastPort ? port + 1 : firstPort;
    const server = createServer();
    const isFree = await new Promise<boolean>((resolve) => {
      server.once("error", () => resolve(false));
      server.listen(port, "127.0.0.1", () => resolve(true));
    });
    if (!isFree) continue;
    server.close();
    await once(server, "close");
    return port;
  }
}

export interface Spawned {
  readonly child: ChildProcess;
  /** Everything printed so far, both streams. */
  output(): string;
  /** Resolves with the line that contains `text`, once it is printed. */
  printed(text: string): Promise<string>;
  kill(signal: NodeJS.Signals): void;
  /** Resolves when the process is gone. */
  readonly exited: Promise<number | null>;
}

/**
 * A real process whose output can be waited for. The caller ends it; the system kills it once this process has ended, whatever
 * ended that. Programs that the process runs without `exec` are not killed.
 */
export function spawnProcess(
  command: string,
  args: readonly string[],
  options: { env?: Record<string, string | undefined>; cwd?: string } = {},
): Spawned {
  // `setpriv` sets the signal for the end of the parent, and becomes the command.
  const child = spawn("setpriv", ["--pdeathsig", "KILL", "--", command, ...args], {
    stdio: ["ignore", "pipe", "pipe"],
    env: { ...process.env, ...options.env },
    ...(options.cwd !== undefined && { cwd: options.cwd }),
  });
  let output = "";
  let over = false;
  const waiting = new Set<() => void>();
  const changed = (): void => {
    for (const check of waiting) check();
  };
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding("utf8");
    stream.on("data", (chunk: string) => {
      output += chunk;
      changed();
    });
  }
  const exited = new Promise<number | null>((resolve, reject) => {
    child.once("error", reject);
    child.once("close", (code) => {
      over = true;
      changed();
      resolve(code);
    });
  });
  exited.catch(() => undefined);
  return {
    child,
    output: () => output,
    kill: (signal) => void child.kill(signal),
    exited,
    printed: (text) =>
      new Promise((resolve, reject) => {
        const check = (): void => {
          const line = output.split("\n").find((candidate) => candidate.includes(text));
          if (line === undefined && !over) return;
          waiting.delete(check);
          if (line !== undefined) resolve(line);
          else reject(new Error(`${command} ended without printing "${text}":\n${output}`));
        };
        waiting.add(check);
        check();
      }),
  };
}
