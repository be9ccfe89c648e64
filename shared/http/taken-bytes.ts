import type { Socket } from "node:net";

/** Node's own members, which `net` reads itself. The handle is null once the socket is closed. */
interface WithHandle {
  readonly _handle: { readonly bytesWritten: number; readonly writeQueueSize: number } | null;
}

/** What the kernel has taken: of a large write, the part it had room for. 0 once the socket is closed. */
export function takenBytes(socket: Socket): number {
  const { _handle: handle } = socket as unknown as WithHandle;
  return handle ? handle.bytesWritten - handle.writeQueueSize : 0;
}
