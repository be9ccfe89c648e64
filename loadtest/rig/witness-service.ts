import { once } from "node:events";
import { createServer, type IncomingMessage, type Server } from "node:http";
import type { AddressInfo } from "node:net";

const arriveWithinMs = 5_000;

/** A service in this process, which sees when a request arrives. */
export class WitnessService {
  readonly #server: Server;
  #waiting: { id: string; arrived: (at: number) => void } | undefined;

  constructor() {
    this.#server = createServer((request, response) => {
      this.#arrived(request);
      request.resume();
      response.end();
    });
  }

  async start(): Promise<string> {
    this.#server.listen(0, "127.0.0.1");
    await once(this.#server, "listening");
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  /** When a request for the key arrives. */
  async next(id: string): Promise<number> {
    return new Promise((resolve, reject) => {
      const late = setTimeout(() => reject(new Error(`no request for ${id} in time`)), arriveWithinMs);
      this.#waiting = {
        id,
        arrived: (at) => {
          clearTimeout(late);
          resolve(at);
        },
      };
    });
  }

  stop(): void {
    this.#server.closeAllConnections();
    this.#server.close();
  }

  #arrived(request: IncomingMessage): void {
    const now = performance.now();
    if (request.headers["ce-partitionkey"] !== this.#waiting?.id) return;
    this.#waiting?.arrived(now);
    this.#waiting = undefined;
  }
}
