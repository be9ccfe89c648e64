/** HTTP by hand, for what no client library does: send half a request, or from another address. */
import { connect, type Socket } from "node:net";

export interface RawConnection {
  readonly socket: Socket;
  /** Everything received so far. */
  received(): string;
  /** Resolves when the connection is gone, with everything that was received. */
  readonly closed: Promise<string>;
}

/** @param from a local address of this machine: 127.0.0.2 is another peer than 127.0.0.1. */
export function openRaw(port: number, text: string, from = "127.0.0.1"): RawConnection {
  const socket = connect({ port, host: "127.0.0.1", localAddress: from });
  let received = "";
  socket.on("data", (chunk: Buffer) => (received += chunk.toString("latin1")));
  // Tests cut connections on purpose, and see them as closed.
  socket.on("error", () => socket.destroy());
  const closed = new Promise<string>((resolve) => socket.once("close", () => resolve(received)));
  if (text !== "") socket.write(text);
  return { socket, received: () => received, closed };
}

export function requestHead(method: string, path: string, headers: readonly string[] = []): string {
  return [`${method} ${path} HTTP/1.1`, "Host: test", ...headers, "", ""].join("\r\n");
}
