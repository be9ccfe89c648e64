/** What the engine under Socket.IO has and its types do not tell. Read in engine.io 6.6 and ws 8.21. */
import type { IncomingMessage, ServerResponse } from "node:http";
import type { Socket as TcpSocket } from "node:net";

export interface Websocket {
  /** Bytes that have not left for the network. */
  readonly bufferedAmount: number;
  /** Null once it is closed; the handle is Node's own, of which `net` itself reads these two. */
  readonly _socket: (TcpSocket & { readonly _handle: { bytesWritten: number; writeQueueSize: number } | null }) | null;
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
  /** Given each request with packets, before its body is read. */
  onDataRequest(request: IncomingMessage, response: ServerResponse): void;
  /** Given the body of each request: packets behind each other. */
  onData(payload: string): void;
}

/** A packet that the client sent. */
export interface EnginePacket {
  type: string;
  data?: unknown;
}

export interface EngineConnection {
  readonly request: IncomingMessage | null;
  readonly readyState: "opening" | "open" | "closing" | "closed";
  readonly transport: WebsocketTransport | PollingTransport;
  once(event: "upgrade" | "close", listener: () => void): void;
  on(event: "packet", listener: (packet: EnginePacket) => void): void;
  /** @param discard without what waits to be sent. */
  close(discard?: boolean): void;
}
