/** Counts what a client sends, wherever it arrives: websocket frames on the TCP socket, engine packets, polling requests. */
import type { Socket as TcpSocket } from "node:net";
import { stopReading } from "../../shared/http/door-input.ts";
import type { RefusalDelay } from "../../shared/http/refusal-delay.ts";
import { resetSocket } from "../../shared/http/reset-socket.ts";
import type { ContainedErrors } from "../../shared/runtime/contained-errors.ts";
import {
  type EnginePacket,
  type EngineSocket,
  type PollingTransport,
  transportCloseReason,
} from "./engine-internals.ts";
import { type FrameHead, FrameScanner } from "./frame-scanner.ts";
import { refuseInvalidText } from "./polled-text.ts";
import { type Flood, InputBudget } from "./input-budget.ts";

const firstControlOpcode = 8;
/** Smaller fragments count as controls; libraries that fragment messages send larger ones. */
const smallFragmentBytes = 1_024;
const eventPackets = new Set(["2", "5"]);
const connectPacket = "0";
/** Time for the peer to answer the closing handshake of a websocket; then the connection is reset. */
export const closeHandshakeMs = 2_000;
/** The most that Node reads at a time: after a read of this size, more is waiting. */
const fullReadBytes = 64 * 1024;
const pollingSeparator = "\u001e";

export interface ConnectionInputOptions {
  /** That a session may send; twice as many at once. */
  bytesPerSecond: number;
  maxMessageBytes: number;
  /** Called when the connection is cut because the client sent too much. */
  onFlood: (flood: Flood) => void;
  /** Of the reset that follows a cut. */
  cutDelay: RefusalDelay;
  errors: ContainedErrors;
}

export class ConnectionInput {
  readonly #options: ConnectionInputOptions;
  readonly #budget: InputBudget;
  #engineSocket: EngineSocket | undefined;
  #tcp: TcpSocket | undefined;
  /** Resumes reading after a pause, or resets a closed connection whose peer does not answer. */
  #timer: NodeJS.Timeout | undefined;
  #isCut = false;

  constructor(options: ConnectionInputOptions) {
    this.#options = options;
    this.#budget = new InputBudget(options.bytesPerSecond);
  }

  /** Puts itself between the TCP socket and the websocket library, which listens to the socket already. */
  watchFrames(tcp: TcpSocket): void {
    const [receive] = tcp.listeners("data") as ((this: TcpSocket, chunk: Buffer) => void)[];
    // The library has refused the upgrade.
    if (!receive) return;
    const isAllowed = !this.#engineSocket || this.#allows(this.#budget.takeControl(performance.now()));
    // A polling connection upgrades to one websocket.
    if (!isAllowed || (this.#tcp && !this.#tcp.destroyed)) {
      resetSocket(tcp);
      return;
    }
    this.#tcp = tcp;
    const scanner = new FrameScanner((head) => this.#allows(this.#frameFlood(head)));
    const pass = this.#options.errors.guarded(
      "frame",
      (chunk: Buffer) => receive.call(tcp, chunk),
      () => this.#cut(),
    );
    tcp.off("data", receive);
    tcp.on("data", (chunk: Buffer) => {
      const now = performance.now();
      if (this.#isCut || !this.#allows(this.#budget.takeBytes(chunk.length, now)) || !scanner.scan(chunk)) return;
      pass(chunk);
      const { pauseMs } = this.#budget;
      if (pauseMs > 0) this.#pause(tcp, pauseMs);
      else if (chunk.length >= fullReadBytes) this.#yieldTurn(tcp);
    });
    tcp.once("close", () => clearTimeout(this.#timer));
  }

  /** To be called when the engine has opened the connection. */
  watchPackets(engineSocket: EngineSocket): void {
    this.#engineSocket = engineSocket;
    engineSocket.on("packet", (packet) => void this.#allows(this.#packetFlood(packet)));
    engineSocket.once("close", (reason) => {
      this.#budget.beginClosing();
      if (this.#isCut) return;
      if (this.#budget.isEntering && reason !== transportCloseReason) this.#leave();
      else this.#resetUnanswered();
    });
    const { transport } = engineSocket;
    if (transport.name === "polling") this.#watchPolling(transport);
  }

  /** Lifts the bounds of a stranger. */
  beginSession(): void {
    this.#budget.beginSession();
    const transport = this.#engineSocket?.transport;
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
    const pass = this.#options.errors.guarded(
      "frame",
      (payload: string) => receive.call(transport, payload),
      () => this.#cut(),
    );
    transport.onData = (payload) => {
      if (!this.#allows(this.#payloadFlood(payload))) return;
      pass(payload);
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
    const flood = this.#budget.takeBytes(Buffer.byteLength(payload), performance.now());
    // Unlike a socket, the request cannot be read later.
    return flood ?? (this.#budget.pauseMs > 0 ? "bytes" : undefined);
  }

  /** Cuts the connection of a flood. @returns whether to read on. */
  #allows(flood: Flood | undefined): boolean {
    if (flood === undefined || this.#isCut) return !this.#isCut;
    this.#options.onFlood(flood);
    this.#cut();
    return false;
  }

  /** Ends the session, and resets the connection a little later. */
  #cut(): void {
    if (this.#isCut) return;
    const tcp = this.#tcp;
    this.#leave();
    // No close frame: the peer would not wait for the reset.
    tcp?.cork();
    this.#engineSocket?.close(true);
  }

  /** Reads nothing more. The reset is delayed: a peer whose connection ends at once opens the next one at once. */
  #leave(): void {
    this.#isCut = true;
    const tcp = this.#tcp;
    if (!tcp || tcp.destroyed) return;
    clearTimeout(this.#timer);
    stopReading(tcp);
    // The library ends its side after its close frame, or once the peer has: the connection would close before.
    tcp.end = () => tcp;
    this.#options.cutDelay.before(() => discard(tcp));
  }

  /** Resets the connection at once. */
  reset(): void {
    this.#isCut = true;
    if (this.#tcp) discard(this.#tcp);
  }

  /** The engine itself waits half a minute for the peer to answer the closing handshake of the websocket. */
  #resetUnanswered(): void {
    const tcp = this.#tcp;
    if (!tcp || tcp.destroyed) return;
    // The answer follows whatever else the peer has sent.
    clearTimeout(this.#timer);
    tcp.resume();
    this.#timer = setTimeout(() => resetSocket(tcp), closeHandshakeMs).unref();
  }

  /** Reads other connections first: Node would read up to 2 MiB of this one in one turn of the event loop. */
  #yieldTurn(tcp: TcpSocket): void {
    if (this.#isCut) return;
    tcp.pause();
    setImmediate(() => void (this.#isCut || tcp.resume()));
  }

  #pause(tcp: TcpSocket, ms: number): void {
    if (this.#isCut || this.#engineSocket?.readyState !== "open") return;
    tcp.pause();
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => tcp.resume(), ms);
  }
}

/** With a reset. The websocket library parses what the socket has buffered when it closes: drops that first. */
function discard(tcp: TcpSocket): void {
  if (tcp.destroyed) return;
  tcp.read();
  resetSocket(tcp);
}
