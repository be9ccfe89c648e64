import type { Socket } from "node:net";

/**
 * Closes the connection with a TCP reset: what waits on either side is dropped.
 *
 * Node refuses a reset between the call that ends the socket's output and the next turn of the event loop, and then never
 * closes the descriptor. Nothing waits to be sent in that time, so closing is enough.
 */
export function resetSocket(socket: Socket): void {
  if (socket.writableEnded && !socket.writableFinished && socket.writableLength === 0) socket.destroy();
  else socket.resetAndDestroy();
}
