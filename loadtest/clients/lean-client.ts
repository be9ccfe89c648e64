/** A client of one channel that costs little, so that thousands of them share a core with what they measure. */
import { connect, type Socket } from "node:net";
import type { Position, SubscribeAck } from "../../shared/protocol/wire.ts";
import { textFrame, upgradeRequest } from "../../test/support/raw-websocket.ts";

export interface LeanClientOptions {
  url: URL;
  token: string;
  channel: string;
  /** Where it stood before it went away. */
  from: Position;
}

type Ack = (SubscribeAck & { ok: true }) | { ok: false; error: { code: string } };

const ackOfSubscribe = "430[";

/** Returns once, follows its channel along the offsets, and counts what is not as it should be. */
export class LeanClient {
  readonly #options: LeanClientOptions;
  #socket: Socket | undefined;
  #pending: Buffer[] = [];
  #pendingBytes = 0;
  /** Before these are there, nothing is complete. */
  #wantedBytes = 0;
  #open = false;
  /** From dialling to the subscribe's ack. */
  returnedInMs: number | undefined;
  recovered = false;
  /** Why it did not: a reason, an error's code, or how the connection ended. */
  trouble: string | undefined;
  missed = 0;
  /** The last publication it got. */
  reached: number;
  lost = 0;
  doubled = 0;
  #startedAt = 0;
  #settled: () => void = () => undefined;

  constructor(options: LeanClientOptions) {
    this.#options = options;
    this.reached = options.from.offset;
  }

  /** Resolves with the ack, or once it cannot come any more. */
  async comeBack(): Promise<void> {
    const { url } = this.#options;
    this.#startedAt = performance.now();
    return new Promise((resolve) => {
      this.#settled = resolve;
      const socket = connect({ port: Number(url.port), host: url.hostname, noDelay: true });
      this.#socket = socket;
      socket.write(upgradeRequest(url));
      socket.on("data", (chunk: Buffer) => this.#take(chunk));
      socket.on("error", (error) => this.#fail(error.message));
      socket.on("close", () => this.#fail("closed"));
    });
  }

  leave(): void {
    this.#socket?.removeAllListeners("close");
    this.#socket?.destroy();
  }

  #fail(trouble: string): void {
    this.trouble ??= trouble;
    this.#settled();
  }

  /** A large ack comes in many chunks: they are joined once it is complete. */
  #take(chunk: Buffer): void {
    this.#pending.push(chunk);
    this.#pendingBytes += chunk.length;
    while (this.#pendingBytes > 0 && this.#pendingBytes >= this.#wantedBytes) {
      const bytes = this.#pending.length === 1 ? (this.#pending[0] ?? chunk) : Buffer.concat(this.#pending);
      this.#pending = [bytes];
      const length = this.#open ? frameLength(bytes) : headLength(bytes);
      if (length === undefined || length > bytes.length) {
        this.#wantedBytes = length ?? bytes.length + 1;
        return;
      }
      if (this.#open) this.#packet(payloadOf(bytes, length));
      this.#open = true;
      this.#pending = [bytes.subarray(length)];
      this.#pendingBytes -= length;
      this.#wantedBytes = 0;
    }
    if (this.#pendingBytes === 0) this.#pending = [];
  }

  #packet(text: string): void {
    if (text === "2") this.#write("3");
    else if (text.startsWith("0")) this.#write(`40${JSON.stringify({ token: this.#options.token })}`);
    else if (text.startsWith("44")) this.#fail(text);
    else if (text.startsWith('42["sync:welcome"')) {
      const { channel, from: position } = this.#options;
      this.#write(`420${JSON.stringify(["sync:subscribe", { channel, position }])}`);
    } else if (text.startsWith(ackOfSubscribe)) this.#subscribed(text);
    else if (text.startsWith('42["sync:')) this.#fail(text.slice(0, 200));
    else if (text.startsWith("42[")) this.#publication(text);
  }

  #subscribed(text: string): void {
    this.returnedInMs = performance.now() - this.#startedAt;
    const [ack] = JSON.parse(text.slice(ackOfSubscribe.length - 1)) as [Ack];
    if (!ack.ok) this.trouble = ack.error.code;
    else if (!ack.recovered) this.trouble = ack.reason ?? "no reason";
    else {
      this.recovered = true;
      for (const { offset } of ack.publications) this.#follow(offset);
      this.missed = ack.publications.length;
      if (ack.position.offset !== this.reached) this.lost++;
    }
    this.#settled();
  }

  #publication(text: string): void {
    const offset = /"offset":(\d+)\}\]$/.exec(text)?.[1];
    if (offset !== undefined) this.#follow(Number(offset));
  }

  #follow(offset: number): void {
    if (offset <= this.reached) this.doubled++;
    else if (offset > this.reached + 1) this.lost++;
    this.reached = Math.max(this.reached, offset);
  }

  #write(text: string): void {
    this.#socket?.write(textFrame(text));
  }
}

/** Of the answer to the upgrade. */
function headLength(bytes: Buffer): number | undefined {
  const end = bytes.indexOf("\r\n\r\n");
  return end === -1 ? undefined : end + 4;
}

/** Of the whole frame, as far as its first bytes are there. Servers do not mask. */
function frameLength(bytes: Buffer): number | undefined {
  if (bytes.length < 2) return undefined;
  const short = bytes.readUInt8(1);
  if (short < 126) return 2 + short;
  if (short === 126) return bytes.length < 4 ? undefined : 4 + bytes.readUInt16BE(2);
  return bytes.length < 10 ? undefined : 10 + Number(bytes.readBigUInt64BE(2));
}

function payloadOf(bytes: Buffer, length: number): string {
  const short = bytes.readUInt8(1);
  return bytes.toString("utf8", short < 126 ? 2 : short === 126 ? 4 : 10, length);
}
