/** How the Redis client opens a connection: to where the primary is at that moment. */
import { connect as connectTcp, Socket } from "node:net";
import { connect as connectTls, type ConnectionOptions } from "node:tls";
import { AbstractConnector } from "ioredis";
import type { ServerAddress } from "./address.ts";

export type HostAndPort = Pick<ServerAddress, "host" | "port">;

export interface PrimarySource {
  /** @throws why nobody knows. */
  locate(): HostAndPort;
}

/** A connection that is given up is not waited for. */
const disconnectTimeoutMs = 100;

/** As the client wants it: a class that it makes a connector of for itself. */
export function connectorTo(
  source: PrimarySource,
  options: { tls: ConnectionOptions | undefined; replicas: "accepted" | "refused" },
): new () => AbstractConnector {
  return class extends AbstractConnector {
    #tell: (type: string, error: Error) => void = () => undefined;

    constructor() {
      super(disconnectTimeoutMs);
    }

    override async connect(tell: (type: string, error: Error) => void): Promise<Socket> {
      this.#tell = tell;
      this.connecting = true;
      this.stream = this.#open();
      this.stream.once("error", (error) => (this.firstError = error));
      return this.stream;
    }

    /** @param info of the server, once it is connected. */
    override check(info: { role?: string }): boolean {
      if (options.replicas === "accepted" || info.role !== "slave") return true;
      this.#tell("error", new Error("the server is a replica, connecting again"));
      return false;
    }

    /** The client gives up for good when it gets no socket: where there is no address, it gets one that has failed. */
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
