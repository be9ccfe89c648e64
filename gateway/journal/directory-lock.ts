/** One process for each directory: the owner listens on a socket in it. A dead owner's socket refuses, however that owner ended. */
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { rename, rm } from "node:fs/promises";
import { connect, createServer, type Server } from "node:net";
import { join } from "node:path";

/** Of the path of a socket, on Linux; the name of a stale one is longer. */
const maxPathBytes = 107;
const staleBytes = 4;

export class DirectoryLock {
  readonly #directory: string;
  readonly #path: string;
  #server: Server | undefined;

  /** @param directory on a disk of this machine: sockets do not work across machines. */
  constructor(directory: string) {
    this.#directory = directory;
    this.#path = join(directory, "owner");
  }

  /** @throws where another process has it, on this machine or in a container beside this one */
  async take(): Promise<void> {
    const stale = `${this.#path}.${randomBytes(staleBytes).toString("hex")}`;
    const excessBytes = Buffer.byteLength(stale) - maxPathBytes;
    if (excessBytes > 0) throw new Error(`${this.#directory}: the path is ${excessBytes} bytes too long`);
    this.#server = await listen(this.#path);
    if (this.#server) return;
    if (await isAnswered(this.#path)) throw this.#inUse();
    await rename(this.#path, stale);
    // Of two processes that find a dead owner, the slower one would move the socket of the faster one away.
    if (await isAnswered(stale)) {
      await rename(stale, this.#path);
      throw this.#inUse();
    }
    await rm(stale, { force: true });
    this.#server = await listen(this.#path);
    if (!this.#server) throw this.#inUse();
  }

  async release(): Promise<void> {
    const server = this.#server;
    this.#server = undefined;
    if (!server) return;
    server.close();
    await once(server, "close");
  }

  #inUse(): Error {
    return new Error(`${this.#directory} is in use by another process: give each gateway its own GATEWAY_NODE`);
  }
}

/** @returns undefined where there is a socket already. */
async function listen(path: string): Promise<Server | undefined> {
  const server = createServer((socket) => socket.destroy());
  // Alone it keeps no process alive.
  server.unref();
  server.listen(path);
  try {
    await once(server, "listening");
    return server;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "EADDRINUSE") return undefined;
    throw error;
  }
}

async function isAnswered(path: string): Promise<boolean> {
  const socket = connect(path);
  try {
    await once(socket, "connect");
    return true;
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === "ECONNREFUSED" || code === "ENOENT") return false;
    throw error;
  } finally {
    socket.destroy();
  }
}
