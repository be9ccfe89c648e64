/** What only a process itself can do or see, through the inspector that it was started with: its code is as in production. */
import type { Server } from "../rig/server.ts";

/** Measures, turn by turn of the event loop, the CPU time of the main thread. */
const meter = `(() => {
  const meter = { longest: 0, on: true };
  let last = process.threadCpuUsage();
  const turn = () => {
    const now = process.threadCpuUsage();
    meter.longest = Math.max(meter.longest, now.user + now.system - last.user - last.system);
    last = now;
    if (meter.on) setImmediate(turn);
  };
  setImmediate(turn);
  globalThis.fuzzMeter = meter;
})()`;

interface Reply {
  readonly id?: number;
  readonly result?: { readonly result?: { readonly value?: unknown }; readonly usedSize?: number };
}

export class Inspector {
  readonly #socket: WebSocket;
  readonly #waiting = new Map<number, (reply: Reply) => void>();
  #last = 0;

  private constructor(socket: WebSocket) {
    this.#socket = socket;
    socket.addEventListener("message", ({ data }) => {
      const reply = JSON.parse(String(data)) as Reply;
      if (reply.id !== undefined) this.#waiting.get(reply.id)?.(reply);
    });
    // The process has ended: nobody waits for its answers.
    socket.addEventListener("close", () => {
      for (const resolve of this.#waiting.values()) resolve({});
    });
  }

  /** @throws where the process has no inspector, or is gone. */
  static async attach(server: Server): Promise<Inspector> {
    const url = /Debugger listening on (ws:\S+)/.exec(server.output())?.[1];
    if (url === undefined) throw new Error(`${server.name} was not started with an inspector`);
    const socket = new WebSocket(url);
    await new Promise<void>((resolve, reject) => {
      socket.addEventListener("open", () => resolve());
      socket.addEventListener("error", () => reject(new Error(`the inspector of ${server.name} cannot be reached`)));
    });
    return new Inspector(socket);
  }

  /** @returns bytes of the heap that are in use after a full collection. */
  async heapAfterCollection(): Promise<number> {
    // What the first one lets go of may hold more.
    await this.#ask("HeapProfiler.collectGarbage");
    await this.#ask("HeapProfiler.collectGarbage");
    return (await this.#ask("Runtime.getHeapUsage")).result?.usedSize ?? 0;
  }

  /** Until it is stopped the process does nothing but turn: what a turn does besides is what it costs. */
  async startMeter(): Promise<void> {
    await this.#evaluate(meter);
  }

  async resetMeter(): Promise<void> {
    await this.#evaluate("fuzzMeter.longest = 0");
  }

  /** @returns ms of CPU that the longest turn of the event loop took since the start, or since it was reset. */
  async stopMeter(): Promise<number> {
    return Number(await this.#evaluate("fuzzMeter.on = false, fuzzMeter.longest")) / 1_000;
  }

  close(): void {
    this.#socket.close();
  }

  async #evaluate(expression: string): Promise<unknown> {
    return (await this.#ask("Runtime.evaluate", { expression, returnByValue: true })).result?.result?.value;
  }

  async #ask(method: string, params: object = {}): Promise<Reply> {
    const id = ++this.#last;
    return new Promise((resolve) => {
      this.#waiting.set(id, (reply) => {
        this.#waiting.delete(id);
        resolve(reply);
      });
      this.#socket.send(JSON.stringify({ id, method, params }));
    });
  }
}
