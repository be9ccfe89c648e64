/** Measures a process from inside through its inspector; the process runs the code of production. */
import type { Server } from "../rig/server.ts";

/** Measures the CPU time of the main thread for each turn of the event loop. */
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
    // The process has ended: pending requests get an empty reply.
    socket.addEventListener("close", () => {
      for (const resolve of this.#waiting.values()) resolve({});
    });
  }

  /** Throws where the process has no inspector or has ended. */
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

  /** @returns bytes in use after a full collection. */
  async heapAfterCollection(): Promise<number> {
    // Finalizers of the first collection may release more.
    await this.#ask("HeapProfiler.collectGarbage");
    await this.#ask("HeapProfiler.collectGarbage");
    return (await this.#ask("Runtime.getHeapUsage")).result?.usedSize ?? 0;
  }

  /** Keeps the event loop turning until stopMeter(); the work in a turn is its cost. */
  async startMeter(): Promise<void> {
    await this.#evaluate(meter);
  }

  async resetMeter(): Promise<void> {
    await this.#evaluate("fuzzMeter.longest = 0");
  }

  /** @returns ms of CPU of the longest turn since startMeter() or resetMeter(). */
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
