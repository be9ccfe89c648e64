/**
 * A process with a few clients that talk a lot: bare sockets, and frames that are made once, so that they cost less than
 * what they ask for. What they send has no route: the gateway reads and answers it, and nobody else works.
 */
import { fork } from "node:child_process";
import { once } from "node:events";
import { pathToFileURL } from "node:url";
import { RawClient } from "../../test/support/raw-client.ts";

interface Talk {
  /** There are so many clients from then on; those that are there stay. */
  readonly connections: number;
  /** All together. */
  readonly perSecond: number;
}

interface ChatterOptions {
  readonly url: string;
  readonly token: string;
  readonly bytes: number;
}

const tickMs = 10;

/** The other side: what a scenario has of it. */
export class Chatter {
  readonly #child = fork(import.meta.filename, { stdio: ["ignore", "inherit", "inherit", "ipc"] });
  readonly #options: ChatterOptions;

  constructor(options: ChatterOptions) {
    this.#options = options;
  }

  /** From now on. Resolves once everybody is welcome. */
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
  const obey = async (order: ChatterOptions & Talk): Promise<void> => {
    frame = unmaskedByZeros(`421${JSON.stringify(["load.chat", { text: "x".repeat(order.bytes) }])}`);
    while (clients.length < order.connections) {
      clients.push(await RawClient.connect(new URL(order.url), order.token));
    }
    perSecond = order.perSecond;
    process.send?.("talking");
  };
  process.on("message", (order: ChatterOptions & Talk) => void obey(order));
  process.on("disconnect", () => process.exit(0));
  setInterval(() => {
    for (owed += (perSecond * tickMs) / 1_000; owed >= 1; owed--) clients[next++ % clients.length]?.socket.write(frame);
  }, tickMs);
}

/** A text frame of a client (RFC 6455, 5.2) whose mask changes nothing: it can be sent again and again. */
function unmaskedByZeros(text: string): Buffer {
  const payload = Buffer.from(text);
  const { length } = payload;
  const head = length < 126 ? [0x81, 0x80 | length] : [0x81, 0xfe, length >> 8, length & 0xff];
  return Buffer.concat([Buffer.from([...head, 0, 0, 0, 0]), payload]);
}

if (process.send && import.meta.url === pathToFileURL(process.argv[1] ?? "").href) serve();
