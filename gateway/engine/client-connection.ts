/** A client's connection: the engine's socket, and Socket.IO's once the client is accepted. Written for socket.io 4.8. */
import type { Socket as TcpSocket } from "node:net";
import type { Socket } from "socket.io";
import { PacketType } from "socket.io-parser";
import { resetSocket } from "../../shared/http/reset-socket.ts";
import { takenBytes } from "../../shared/http/taken-bytes.ts";
import type { ContainedErrors } from "../../shared/runtime/contained-errors.ts";
import { maxOutboxBytes } from "../../shared/protocol/limits.ts";
import type { Connection } from "../outbox/connection.ts";
import type { Frame } from "../outbox/frames.ts";
import type { ClientEvent } from "../requests/client-event.ts";
import { closeHandshakeMs, type ConnectionInput } from "./connection-input.ts";
import { type EngineSocket, pingTimeoutReason, type Websocket } from "./engine-internals.ts";
import type { Packet } from "./packet-decoder.ts";

/** As long as those of browsers, and some more; sent to the connect hook. */
const maxUserAgentLength = 512;
/** Pongs that may wait for a client: one with more sends pings and does not read. */
const maxPongBytes = 64 * 1024;
/** The close code where the peer sent no close frame (RFC 6455, 7.1.5). */
const noCloseFrame = 1006;

const connections = new WeakMap<object, ClientConnection>();

/** @param engineSocket of the engine, also as `conn` of a Socket.IO socket. */
export function connectionOf(engineSocket: object): ClientConnection | undefined {
  return connections.get(engineSocket);
}

interface SocketInternals {
  /** Called with each packet of the namespace except CONNECT. */
  _onpacket(packet: Packet): void;
  ondisconnect(): void;
}

export interface SessionListener {
  onEvent: (event: ClientEvent) => Promise<void>;
  /** The client has left the namespace. */
  onLeave: () => void;
  /** The client has sent something that is no packet; the connection closes. */
  onBadPacket: (error: Error) => void;
}

export class ClientConnection implements Connection {
  readonly address: string;
  readonly requestedAt: number;
  readonly #engineSocket: EngineSocket;
  readonly #input: ConnectionInput;
  /** Set once the client is accepted. */
  #socket: Socket | undefined;

  constructor(options: { engineSocket: EngineSocket; input: ConnectionInput; address: string; requestedAt: number }) {
    this.address = options.address;
    this.requestedAt = options.requestedAt;
    this.#engineSocket = options.engineSocket;
    this.#input = options.input;
  }

  /** Once, right after the engine has opened the connection. */
  watch(): void {
    const engineSocket = this.#engineSocket;
    connections.set(engineSocket, this);
    this.#input.watchPackets(engineSocket);
    const boundPongs = (): void => engineSocket.transport.socket?.on("ping", resetUnread);
    boundPongs();
    if (!engineSocket.transport.socket) engineSocket.once("upgrade", boundPongs);
  }

  /** A polling connection upgrades to this socket. */
  upgrade(tcp: TcpSocket): void {
    this.#input.watchFrames(tcp);
  }

  get isOpen(): boolean {
    return this.#engineSocket.readyState === "open";
  }

  /** Always 0 while the transport is polling. */
  get takenBytes(): number {
    const socket = this.#websocket?._socket;
    return socket ? takenBytes(socket) : 0;
  }

  write(packet: string, options: Frame["options"], sent?: () => void): void {
    this.#engineSocket.write(packet, options, sent);
  }

  close(announce: boolean, whenClosed?: (taken: boolean) => void): void {
    const websocket = this.#websocket;
    if (websocket) resetUnanswered(websocket, whenClosed);
    if (announce && this.#socket) this.#socket.disconnect(true);
    else this.#engineSocket.close();
    if (!websocket) whenClosed?.(true);
  }

  terminate(): void {
    this.#engineSocket.close(true);
    this.#input.reset();
  }

  onClosed(listener: (timedOut: boolean) => void): void {
    this.#engineSocket.once("close", (reason) => listener(reason === pingTimeoutReason));
  }

  /** The client's session begins: lifts the bounds of a stranger, and delivers every event of the client from now on. */
  begin(socket: Socket, errors: ContainedErrors, { onEvent, onLeave, onBadPacket }: SessionListener): void {
    this.#socket = socket;
    this.#input.beginSession();
    this.#engineSocket.request = null;
    // In place of Socket.IO's listeners, which spread an event's arguments over a call, and whose acks bypass the outbox.
    const internals = socket as unknown as SocketInternals;
    internals._onpacket = errors.guarded(
      "frame",
      ({ type, id, event }: Packet) => {
        if (type === PacketType.DISCONNECT) internals.ondisconnect();
        return event && onEvent({ ...event, ackId: id });
      },
      () => this.terminate(),
    );
    socket.on("error", (error: Error) => {
      onBadPacket(error);
      this.close(false);
    });
    // There is one namespace: a client that leaves it and keeps the transport open has nothing left to do.
    socket.on("disconnect", (reason) => {
      if (reason === "client namespace disconnect") onLeave();
      this.#engineSocket.close();
    });
  }

  /** Undefined while the transport is polling. */
  get #websocket(): Websocket | undefined {
    return this.#engineSocket.transport.socket;
  }
}

const noHandshake = Object.freeze({});

/** Reads the client's handshake and drops it from Socket.IO's memory. */
export function takeHandshake(socket: Socket): { auth: unknown; userAgent: string } {
  const { auth, headers } = socket.handshake;
  (socket as { handshake: unknown }).handshake = noHandshake;
  return { auth, userAgent: headers["user-agent"]?.slice(0, maxUserAgentLength) ?? "" };
}

/** `ws` answers pings by itself, past the outbox. One function for all connections. */
function resetUnread(this: Websocket): void {
  if (this.bufferedAmount > maxOutboxBytes + maxPongBytes) reset(this);
}

/** Where the peer does not answer the closing handshake in time. */
function resetUnanswered(websocket: Websocket, whenClosed?: (answered: boolean) => void): void {
  const timer = setTimeout(() => reset(websocket), closeHandshakeMs);
  websocket.once("close", (code) => {
    clearTimeout(timer);
    whenClosed?.(code !== noCloseFrame);
  });
}

/**
 * With a TCP reset. Otherwise the kernel would keep what the peer has not read, and give up silently in the end: a peer that
 * reads again later would wait for messages that never arrive.
 */
function reset(websocket: Websocket | undefined): void {
  if (websocket?._socket) resetSocket(websocket._socket);
}
