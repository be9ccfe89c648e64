/** Many connections at once to a fleet of one node. */
import { once } from "node:events";
import type { Socket } from "node:net";
import { vi } from "vitest";
import type { ConnectRefusal } from "../../shared/protocol/codes.ts";
import { type Fleet, startFleet } from "./fleet.ts";
import { openRawWebsocket, textFrame } from "./raw-websocket.ts";
import { closeClients, userToken } from "./stock-client.ts";

export type OneFleet = Fleet & { url: string };

/** What the tests of one file open; `closeAll` after each. */
export function crowdsOf(): {
  fleets: Fleet[];
  rawSockets: Socket[];
  fleetWith: (environment: Record<string, string>, rules?: object) => Promise<OneFleet>;
  closeAll: () => Promise<void>;
} {
  const fleets: Fleet[] = [];
  const rawSockets: Socket[] = [];
  return {
    fleets,
    rawSockets,
    fleetWith: async (environment, rules) => {
      const fleet = await startFleet({ environment, ...(rules && { rules }) });
      fleets.push(fleet);
      return { ...fleet, url: fleet.urls[0] ?? "" };
    },
    closeAll: async () => {
      closeClients();
      for (const socket of rawSockets.splice(0)) socket.destroy();
      for (const fleet of fleets.splice(0)) await fleet.stop();
    },
  };
}

/** No time passes for limits and queues, however long what follows takes. @returns lets time pass again, from that moment on */
export function stopTime(): () => void {
  const stoppedAt = performance.now();
  const clock = vi.spyOn(performance, "now").mockReturnValue(stoppedAt);
  return () => {
    const from = Date.now();
    clock.mockImplementation(() => stoppedAt + Date.now() - from);
  };
}

export async function answerTo(socket: Socket, request: string | Buffer): Promise<string> {
  socket.write(request);
  return String((await once(socket, "data"))[0]);
}

/**
 * Opens websockets, then sends a handshake on each of them, all in one turn: the rate at which they arrive does not depend on
 * the speed of the machine.
 * @returns for each whether it is admitted, or its refusal, once it is known.
 */
export async function enterTogether(
  url: string,
  count: number,
  rawSockets: Socket[],
): Promise<Promise<"admitted" | ConnectRefusal>[]> {
  const sockets = await Promise.all(Array.from({ length: count }, () => openRawWebsocket(new URL(url))));
  rawSockets.push(...sockets);
  const handshake = textFrame(`40${JSON.stringify({ token: await userToken() })}`);
  return sockets.map(async (socket) => {
    const [, refused] = /44(\{.*\})/.exec(await answerTo(socket, handshake)) ?? [];
    return refused === undefined ? "admitted" : (JSON.parse(refused) as { data: ConnectRefusal }).data;
  });
}
