/** Opens connections of the Redis client to the current address of the primary. */
import { connect as connectTcp, Socket } from "node:net";
import { connect as connectTls, type ConnectionOptions } from "node:tls";
import { AbstractConnector } from "ioredis";
import type { ServerAddress } from "./address.ts";

export type HostAndPort = Pick<ServerAddress, "host" | "port">;

export interface PrimarySource {
  /** @throws where the address is unknown, with the reason. */
  locate(): HostAndPort;
}

/** Grace for a connection that is being closed. */
const disconnectTimeoutMs = 100;

/** The client takes a class and constructs the connector itself. */
export function connectorTo(
  source: PrimarySource,
  options: { tls: ConnectionOptions | undefined; replicas: "accepted" | "refused" },
): new () => AbstractConnector {
  return class extends AbstractConnector {
    #emit: (type: string, error: Error) => void = () => undefined;

    constructor() {
      super(disconnectTimeoutMs);
    }

    override async connect(emit: (type: string, error: Error) => void): Promise<Socket> {
      this.#emit = emit;
      this.connecting = true;
      this.stream = this.#open();
      this.stream.once("error", (error) => (this.firstError = error));
      return this.stream;
    }

    /** @param info the server's INFO, once connected. */
    override check(info: { role?: string }): boolean {
      if (options.replicas === "accepted" || info.role !== "slave") return true;
      this.#emit("error", new Error("the server is a replica, reconnecting"));
      return false;
    }

    /** Without an address it returns a destroyed socket: a client that gets no socket gives up for good. */
    #open(): Socket {
      let address: HostAndPort;
      try {
        address = source.locate();
      } catch (error) {
        this.firstError = error as Error;
        return new Socket().destroy();
      }
      const { host, port } = address;
      return options.tls ? connectTls({ ...options.tls, host, port }) : connectTcp({ host, port });
    }
  };
}
