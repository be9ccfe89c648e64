/**
 * A process with a few clients that send many messages. Each frame is encoded once, so that sending costs less than
 * receiving. The messages have no route: the gateway alone reads and answers them.
 */
import { fork } from "node:child_process";
import { once } from "node:events";
import { pathToFileURL } from "node:url";
import { RawClient } from "../../test/support/raw-client.ts";
import { encodeFrame, opcodes, zeroMask } from "../../test/support/raw-websocket.ts";

interface Talk {
  /** Clients from now on; those that are connected stay. */
  readonly connections: number;
  /** Messages per second of all clients together. */
  readonly perSecond: number;
}

interface ChatterOptions {
  readonly url: string;
  readonly token: string;
  /** Of the text in each message. */
  readonly bytes: number;
}

const tickMs = 10;

/** The parent's side of the process. */
export class Chatter {
  readonly #child = fork(import.meta.filename, { stdio: ["ignore", "inherit", "inherit", "ipc"] });
  readonly #options: ChatterOptions;

  constructor(options: ChatterOptions) {
    this.#options = options;
  }

  /** Changes the rate. Resolves once every client is welcome. */
  async talk(talk: Talk): Promise<void> {
    this.#child.send({ ...this.#options, ...talk });
    await once(this.#child, "message");
  }

  async stop(): Promise<void> {
    this.#child.disconnect();
    await once(this.#child, "exit");
  }
}

function serve(): void {
  const clients: RawClient[] = [];
  let [perSecond, owed, next] = [0, 0, 0];
  let frame: Buffer = Buffer.alloc(0);
  const talk = async (order: ChatterOptions & Talk): Promise<void> => {
    const message = Buffer.from(`421${JSON.stringify(["load.chat", { text: "x".repeat(order.bytes) }])}`);
    frame = encodeFrame(opcodes.text, message, { mask: zeroMask });
    while (clients.length < order.connections) {
      clients.push(await RawClient.connect(new URL(order.url), order.token));
    }
    perSecond = order.perSecond;
    process.send?.("talking");
  };
  process.on("message", (order: ChatterOptions & Talk) => void talk(order));
  process.on("disconnect", () => process.exit(0));
  setInterval(() => {
    for (owed += (perSecond * tickMs) / 1_000; owed >= 1; owed--) clients[next++ % clients.length]?.socket.write(frame);
  }, tickMs);
}

if (process.send && import.meta.url === pathToFileURL(process.argv[1] ?? "").href) serve();
