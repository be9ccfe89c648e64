/**
 * A well-behaved client in its own process: it calls, follows a channel, asks for health checks, and reports how long each
 * takes.
 */
import { fork } from "node:child_process";
import { once } from "node:events";
import { Agent, type IncomingMessage, request } from "node:http";
import { pathToFileURL } from "node:url";
import { io } from "socket.io-client";
import { Histogram, type HistogramJson } from "../checks/histogram.ts";
import { honestChannel } from "./names.ts";

const callEveryMs = 50;
const publishEveryMs = 100;
const checkEveryMs = 100;
const startWithinMs = 20_000;
/** Anything slower counts as failed. */
const failedAfterMs = 15_000;

export interface HonestOptions {
  readonly url: string;
  readonly token: string;
  readonly apiUrl: string;
  readonly apiToken: string;
  /** Ports whose health it asks for. */
  readonly healthUrls: readonly string[];
  /** False where no service answers calls: the client reads history instead. */
  readonly calls: boolean;
}

export interface HonestFigures {
  readonly calls: HistogramJson;
  readonly publications: HistogramJson;
  readonly health: HistogramJson;
  /** Failures by description. */
  readonly failures: Readonly<Record<string, number>>;
}

/** The parent's side of the process. */
export class HonestClient {
  readonly #child = fork(import.meta.filename, { stdio: ["ignore", "inherit", "inherit", "ipc"] });

  /** Resolves once the client follows its channel. */
  async start(options: HonestOptions): Promise<void> {
    this.#child.send(options);
    await once(this.#child, "message", { signal: AbortSignal.timeout(startWithinMs) });
  }

  /** Figures since the last call. @param forget drops publications under way */
  async figures(forget: boolean): Promise<HonestFigures> {
    this.#child.send(forget ? "forget" : "figures");
    const [figures] = (await once(this.#child, "message")) as [HonestFigures];
    return figures;
  }

  async stop(): Promise<void> {
    if (this.#child.exitCode !== null) return;
    this.#child.disconnect();
    await once(this.#child, "exit");
  }
}

class Serving {
  readonly #options: HonestOptions;
  #calls = new Histogram();
  #publications = new Histogram();
  #health = new Histogram();
  #failures: Record<string, number> = {};
  readonly #published = new Map<number, number>();
  #last = 0;

  constructor(options: HonestOptions) {
    this.#options = options;
  }

  async begin(): Promise<void> {
    const { url, token } = this.#options;
    const socket = io(url, {
      auth: { token },
      transports: ["websocket"],
      reconnectionDelay: 100,
      reconnectionDelayMax: 500,
    });
    let connects = 0;
    const following = Promise.withResolvers<void>();
    socket.on("connect", () => {
      if (++connects > 1) this.#failed("reconnected");
      socket.emit("sync:subscribe", { channel: honestChannel }, (ack: { ok: boolean }) => {
        if (!ack.ok) this.#failed("subscribe refused");
        following.resolve();
      });
    });
    socket.on("connect_error", (error) => this.#failed(`connect: ${error.message}`));
    socket.on("tick", ({ number }: { number: number }) => {
      const startedAt = this.#published.get(number);
      if (startedAt !== undefined) this.#publications.add(performance.now() - startedAt);
      this.#published.delete(number);
    });
    await following.promise;
    setInterval(() => {
      if (socket.connected) void this.#timed("call", this.#calls, async () => this.#call(socket));
    }, callEveryMs);
    setInterval(() => void this.#publish(), publishEveryMs);
    setInterval(() => {
      for (const health of this.#options.healthUrls) {
        void this.#timed("health check", this.#health, async () => this.#check(health));
      }
    }, checkEveryMs);
  }

  /** Drops publications that it could not receive. */
  forget(): void {
    this.#published.clear();
  }

  take(): HonestFigures {
    for (const [number, at] of this.#published) {
      if (performance.now() - at < failedAfterMs) continue;
      this.#published.delete(number);
      this.#failed("publication missing");
    }
    const figures = {
      calls: this.#calls.toJSON(),
      publications: this.#publications.toJSON(),
      health: this.#health.toJSON(),
      failures: this.#failures,
    };
    [this.#calls, this.#publications, this.#health, this.#failures] = [
      new Histogram(),
      new Histogram(),
      new Histogram(),
      {},
    ];
    return figures;
  }

  async #call(socket: ReturnType<typeof io>): Promise<void> {
    const request = socket.timeout(failedAfterMs);
    const ack = (await (this.#options.calls
      ? request.emitWithAck("echo", { honest: true })
      : request.emitWithAck("sync:history", { channel: honestChannel, limit: 1 }))) as {
      ok: boolean;
      error?: { code: string };
    };
    if (!ack.ok) throw new Error(ack.error?.code ?? "refused");
  }

  async #publish(): Promise<void> {
    const { apiUrl, apiToken } = this.#options;
    const number = ++this.#last;
    this.#published.set(number, performance.now());
    try {
      await ask(`${apiUrl}/v1/publish`, {
        token: apiToken,
        body: JSON.stringify({ channel: honestChannel, event: "tick", data: { number } }),
      });
    } catch (error) {
      this.#published.delete(number);
      this.#failed(`publish: ${(error as Error).message}`);
    }
  }

  async #check(url: string): Promise<void> {
    for (const path of ["/livez", "/readyz"]) await ask(`${url}${path}`);
  }

  async #timed(what: string, histogram: Histogram, act: () => Promise<void>): Promise<void> {
    const startedAt = performance.now();
    try {
      await act();
      histogram.add(performance.now() - startedAt);
    } catch (error) {
      this.#failed(`${what}: ${(error as Error).message}`);
    }
  }

  #failed(what: string): void {
    this.#failures[what] = (this.#failures[what] ?? 0) + 1;
  }
}

/** Few, so that no connection stays open for long at the end. */
const publisher = new Agent({ keepAlive: true, maxSockets: 4 });
/** As the probes of an orchestrator: a connection for each, from a machine of its own. A crowded door closes those of the crowd. */
const probe = { agent: new Agent(), localAddress: "127.0.0.2" };

/** Throws where the answer is not 2xx. */
async function ask(url: string, post?: { token: string; body: string }): Promise<void> {
  const asked = post
    ? request(url, {
        agent: publisher,
        method: "POST",
        headers: { authorization: `Bearer ${post.token}`, "content-type": "application/json" },
      })
    : request(url, probe);
  const answered = once(asked, "response", { signal: AbortSignal.timeout(failedAfterMs) });
  asked.end(post?.body);
  const [answer] = (await answered) as [IncomingMessage];
  answer.resume();
  const { statusCode = 0 } = answer;
  if (statusCode < 200 || statusCode > 299) throw new Error(String(statusCode));
}

function serve(): void {
  let serving: Serving | undefined;
  process.on("message", (order: HonestOptions | "figures" | "forget") => {
    if (order === "forget") serving?.forget();
    if (order === "figures" || order === "forget") process.send?.(serving?.take());
    else {
      serving = new Serving(order);
      void serving.begin().then(() => process.send?.("ready"));
    }
  });
  process.on("disconnect", () => process.exit(0));
}

if (process.send && import.meta.url === pathToFileURL(process.argv[1] ?? "").href) serve();
