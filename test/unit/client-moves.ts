/** What tests of a client's move do alike. */
import type { Channel, Client, ClientOptions, ClientState } from "../../client/src/index.ts";
import type { Drain } from "../../shared/protocol/wire.ts";
import { eventually } from "../support/eventually.ts";
import { clientsOf, type FakeGateway, reached } from "./client-fake-gateway.ts";

/** @param gatewayOf the gateway of the test that runs */
export function movesOf(gatewayOf: () => FakeGateway): {
  connected: (options?: Partial<ClientOptions>) => Promise<{ client: Client; states: ClientState[] }>;
  subscribed: (client: Client) => Promise<{ board: Channel; heard: unknown[] }>;
  drain: (order?: Partial<Drain>) => void;
  publish: (connection: number, offset: number) => void;
  /** Resolves once so many connections have been opened. */
  sockets: (count: number) => Promise<unknown>;
  /** Resolves once the connection with this index is closed. */
  gone: (connection: number) => Promise<unknown>;
  /** Leaves requests with this event to the test, on every connection but the first. */
  holdOnSecond: (event: string) => void;
  closeAll: () => void;
} {
  const { open, closeAll } = clientsOf(gatewayOf);
  return {
    connected: async (options = {}) => {
      const client = open(options);
      await reached(client, "connected");
      const states: ClientState[] = [];
      client.onState((state) => states.push(state));
      return { client, states };
    },
    subscribed: async (client) => {
      const board = client.channel("board:1");
      const heard: unknown[] = [];
      board.on("moved", (data) => heard.push(data));
      await board.subscribe();
      return { board, heard };
    },
    drain: (order = {}) => {
      gatewayOf().socket.emit("sync:drain", { reconnectInMs: 0, deadlineInMs: 60_000, ...order });
    },
    publish: (connection, offset) => {
      gatewayOf().sockets[connection]?.emit("moved", `p${offset}`, { channel: "board:1", offset });
    },
    sockets: async (count) => eventually(() => gatewayOf().sockets.length === count),
    gone: async (connection) => eventually(() => gatewayOf().sockets[connection]?.disconnected === true),
    holdOnSecond: (event) => {
      const gateway = gatewayOf();
      gateway.onRequest = (request) =>
        request.event === event && request.socket !== gateway.sockets[0] ? false : gateway.grant(request);
    },
    closeAll,
  };
}
