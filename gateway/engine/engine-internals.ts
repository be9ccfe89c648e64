/** Members of the engine under Socket.IO that its types leave out. Read in engine.io 6.6 and ws 8.21. */
import type { IncomingMessage, ServerResponse } from "node:http";
import type { Socket as TcpSocket } from "node:net";
import type { Frame } from "../outbox/frames.ts";

export interface Websocket {
  /** Bytes that have not left for the network. */
  readonly bufferedAmount: number;
  /** Null once closed. */
  readonly _socket: TcpSocket | null;
  once(event: "close", listener: (code: number) => void): void;
  on(event: "ping", listener: (this: Websocket) => void): void;
}

export interface WebsocketTransport {
  readonly name: "websocket";
  readonly socket: Websocket;
}

export interface PollingTransport {
  readonly name: "polling";
  readonly socket?: never;
  /** Of one request, in bytes. */
  maxHttpBufferSize: number;
  /** Called with each request that carries packets, before its body is read. */
  onDataRequest(request: IncomingMessage, response: ServerResponse): void;
  /** Called with the body of each request: packets, one after the other. */
  onData(payload: string): void;
}

/** A packet that the client sent. */
export interface EnginePacket {
  type: string;
  data?: unknown;
}

/** Why the engine closes a connection whose client did not answer a ping in time. */
export const pingTimeoutReason = "ping timeout";
/** … whose client has closed it. */
export const transportCloseReason = "transport close";

export interface EngineSocket {
  /** Kept by the engine for as long as the connection lives, unless it is set to null. */
  request: IncomingMessage | null;
  readonly readyState: "opening" | "open" | "closing" | "closed";
  readonly transport: WebsocketTransport | PollingTransport;
  write(packet: string, options: Frame["options"], sent?: () => void): unknown;
  once(event: "upgrade" | "close", listener: (reason: string) => void): void;
  on(event: "packet", listener: (packet: EnginePacket) => void): void;
  /** @param discard drops what waits to be sent. */
  close(discard?: boolean): void;
}
