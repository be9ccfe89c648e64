/** Counts what a connection sends, wherever it arrives: websocket frames on its TCP socket, packets of the engine, polling requests. */
import type { Socket as TcpSocket } from "node:net";
import type { ContainedErrors } from "../../shared/runtime/contained-errors.ts";
import type { EngineConnection, EnginePacket, PollingTransport } from "./engine-internals.ts";
import { type FrameHead, FrameScanner } from "./frame-scanner.ts";
import { refuseInvalidText } from "./polled-text.ts";
import { type Flood, InputBudget } from "./input-budget.ts";

const firstControlOpcode = 8;
/** Libraries that fragment messages use larger pieces. */
const smallFragmentBytes = 1_024;
const eventPackets = new Set(["2", "5"]);
const connectPacket = "0";
/** A peer that does not answer the websocket's closing handshake within this is cut off. */
export const closeHandshakeMs = 2_000;
/** What the kernel hands over at most in one read: where it is as much, there is more. */
const fullReadBytes = 64 * 1024;
const pollingSeparator = "\u001e";

export interface ConnectionInputOptions {
  /** That a session may send; twice as many at once. */
  bytesPerSecond: number;
  maxMessageBytes: number;
  onFlood: (flood: Flood) => void;
  errors: ContainedErrors;
}

export class ConnectionInput {
  readonly #options: ConnectionInputOptions;
  readonly #budget: InputBudget;
  #connection: EngineConnection | undefined;
  #tcp: TcpSocket | undefined;
  /** Reads on after a pause, or cuts a connection off that is closed and not ended. */
  #timer: NodeJS.Timeout | undefined;
  #isCut = false;

  constructor(options: ConnectionInputOptions) {
    this.#options = options;
    this.#budget = new InputBudget(options.bytesPerSecond);
  }

  /** Stands between the TCP socket and the websocket library, which listens to it already. */
  watchFrames(tcp: TcpSocket): void {
    const [receive] = tcp.listeners("data") as ((this: TcpSocket, chunk: Buffer) => void)[];
    // The upgrade was refused.
    if (!receive) return;
    // A polling connection upgrades once.
    if (this.#tcp && !this.#tcp.destroyed) {
      tcp.resetAndDestroy();
      return;
    }
    this.#tcp = tcp;
    if (this.#connection && !this.#allows(this.#budget.takeControl(performance.now()))) return;
    const scanner = new FrameScanner((head) => this.#allows(this.#frameFlood(head)));
    const handOver = this.#options.errors.guarded(
      "frame",
      (chunk: Buffer) => receive.call(tcp, chunk),
      () => this.#cut(),
    );
    tcp.off("data", receive);
    tcp.on("data", (chunk: Buffer) => {
      const now = performance.now();
      if (this.#isCut || !this.#allows(this.#budget.takeBytes(chunk.length, now)) || !scanner.scan(chunk)) return;
      handOver(chunk);
      const { pauseMs } = this.#budget;
      if (pauseMs > 0) this.#pause(tcp, pauseMs);
      else if (chunk.length >= fullReadBytes) this.#yieldTurn(tcp);
    });
    tcp.once("close", () => clearTimeout(this.#timer));
  }

  /** The engine has opened the connection. */
  watchPackets(connection: EngineConnection): void {
    this.#connection = connection;
    connection.on("packet", (packet) => void this.#allows(this.#packetFlood(packet)));
    connection.once("close", () => {
      this.#budget.beginClosing();
      this.#cutOffUnanswered();
    });
    const { transport } = connection;
    if (transport.name === "polling") this.#watchPolling(transport);
  }

  /** Its client has become a session: the bounds of a stranger end. */
  beginSession(): void {
    this.#budget.beginSession();
    const transport = this.#connection?.transport;
    if (transport?.name === "polling") transport.maxHttpBufferSize = this.#options.maxMessageBytes;
  }

  #watchPolling(transport: PollingTransport): void {
    transport.maxHttpBufferSize = this.#budget.maxMessageBytes ?? this.#options.maxMessageBytes;
    const receiveRequest = transport.onDataRequest;
    transport.onDataRequest = (request, response) => {
      refuseInvalidText(request, () => {
        if (response.headersSent) return;
        response.writeHead(400, { connection: "close" }).end("the body is not UTF-8", () => this.#cut());
      });
      receiveRequest.call(transport, request, response);
    };
    const receive = transport.onData;
    const handOver = this.#options.errors.guarded(
      "frame",
      (payload: string) => receive.call(transport, payload),
      () => this.#cut(),
    );
    transport.onData = (payload) => {
      if (!this.#allows(this.#payloadFlood(payload))) return;
      handOver(payload);
    };
  }

  #frameFlood({ opcode, fin, length }: Readonly<FrameHead>): Flood | undefined {
    const flood = this.#budget.takeFrame() ?? this.#budget.takeMessage(length);
    if (flood) return flood;
    const isControl = opcode >= firstControlOpcode || (!fin && length < smallFragmentBytes);
    return isControl ? this.#budget.takeControl(performance.now()) : undefined;
  }

  #packetFlood({ type, data }: EnginePacket): Flood | undefined {
    const kind = type === "message" && typeof data === "string" ? data.charAt(0) : "";
    if (eventPackets.has(kind)) return undefined;
    return kind === connectPacket ? this.#budget.takeConnect() : this.#budget.takeControl(performance.now());
  }

  #payloadFlood(payload: string): Flood | undefined {
    const { maxPackets } = this.#budget;
    let packets = 1;
    for (let at = payload.indexOf(pollingSeparator); at !== -1; at = payload.indexOf(pollingSeparator, at + 1)) {
      if (++packets > maxPackets) return "packets";
    }
    const flood = this.#budget.takeBytes(payload.length, performance.now());
    // A request cannot be read later.
    return flood ?? (this.#budget.pauseMs > 0 ? "bytes" : undefined);
  }

  /** @returns whether to go on; a flood is cut off. */
  #allows(flood: Flood | undefined): boolean {
    if (flood === undefined || this.#isCut) return !this.#isCut;
    this.#options.onFlood(flood);
    this.#cut();
    return false;
  }

  /** With a reset: what has been sent is not read any more. */
  #cut(): void {
    this.#isCut = true;
    this.#connection?.close(true);
    this.#tcp?.resetAndDestroy();
  }

  /** The engine itself would wait for half a minute for a peer that does not answer the websocket's closing handshake. */
  #cutOffUnanswered(): void {
    const tcp = this.#tcp;
    if (!tcp || tcp.destroyed) return;
    // The peer's answer is read, whatever else it has sent.
    clearTimeout(this.#timer);
    tcp.resume();
    this.#timer = setTimeout(() => tcp.resetAndDestroy(), closeHandshakeMs).unref();
  }

  /** Others are read before more of this connection, of which Node would otherwise take 2 MiB in one turn of the event loop. */
  #yieldTurn(tcp: TcpSocket): void {
    if (this.#isCut) return;
    tcp.pause();
    setImmediate(() => tcp.resume());
  }

  #pause(tcp: TcpSocket, ms: number): void {
    if (this.#isCut || this.#connection?.readyState !== "open") return;
    tcp.pause();
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => tcp.resume(), ms);
  }
}
