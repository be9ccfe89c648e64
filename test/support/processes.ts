import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { createServer, type Server } from "node:net";

/** Below those that the system gives to outgoing connections, which would take what was free a moment ago. */
const firstPort = 10_000;
const blockPorts = 256;
const blocks = 85;

/** Of this process alone: its first port stays open as a sign for others, and what it gives out comes in turn from the others. */
let block: Promise<{ first: number; given: number }> | undefined;

/**
 * A port that is free, for programs that cannot be given port 0. Processes that run at the same time get ports of different blocks, and
 * one process gets none twice within 255 calls: so nobody else takes a port before the program has opened it.
 */
export async function freePort(): Promise<number> {
  const own = await (block ??= takeBlock());
  for (let tried = 0; tried < blockPorts; tried++) {
    own.given = (own.given % (blockPorts - 1)) + 1;
    const port = own.first + own.given;
    const server = await listenOn(port);
    if (!server) continue;
    server.close();
    await once(server, "close");
    return port;
  }
  throw new Error(`all ports from ${own.first + 1} to ${own.first + blockPorts - 1} are in use`);
}

async function takeBlock(): Promise<{ first: number; given: number }> {
  const start = Math.floor(Math.random() * blocks);
  for (let index = 0; index < blocks; index++) {
    const first = firstPort + ((start + index) % blocks) * blockPorts;
    const sign = await listenOn(first);
    if (!sign) continue;
    sign.unref();
    return { first, given: 0 };
  }
  throw new Error("other processes have all blocks of ports");
}

async function listenOn(port: number): Promise<Server | undefined> {
  const server = createServer();
  return new Promise((resolve) => {
    server.once("error", () => resolve(undefined));
    server.listen(port, "127.0.0.1", () => resolve(server));
  });
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
