/** A Socket.IO server on a real port that answers clients as the test says. */
import { once } from "node:events";
import { createServer, type RequestListener, type Server as HttpServer } from "node:http";
import type { AddressInfo } from "node:net";
import { Server, type Socket } from "socket.io";
import { type Client, type ClientOptions, type ClientState, connect } from "../../client/src/index.ts";
import type { ConnectRefusal } from "../../shared/protocol/codes.ts";
import type { Ack, Position, Welcome } from "../../shared/protocol/wire.ts";
import { eventually } from "../support/eventually.ts";

export interface Request {
  event: string;
  /** Of a `sync:` request; a call's data may be anything. */
  data: { channel: string; position?: Position; grant?: string };
  options: unknown;
  socket: Socket;
  /** The request stays open until the test calls this. */
  answer(ack: Ack<Record<string, unknown>>): void;
}

export class FakeGateway {
  /** Every event of the clients, in order. */
  readonly requests: Request[] = [];
  /** `auth` of every handshake, refused ones included. */
  readonly handshakes: Record<string, unknown>[] = [];
  readonly sockets: Socket[] = [];
  /** Each refuses one of the next handshakes. */
  readonly refusals: ConnectRefusal[] = [];
  readonly positions = new Map<string, Position>();
  welcome: Partial<Welcome> = {};
  /** Answers a request, or returns false to leave it open. */
  onRequest: (request: Request) => boolean = () => this.grant(this.requests.at(-1) as Request);
  /** Tells the earlier connection of a session that it has moved. */
  announcesMoves = true;
  url = "";
  readonly #http: HttpServer;
  readonly #io: Server;

  /** @param pages answers every other request, for clients in a browser */
  constructor(pages?: RequestListener) {
    this.#http = createServer(pages);
    this.#io = new Server(this.#http, { transports: ["websocket"] });
  }

  async start(port = 0): Promise<void> {
    this.#io.use((socket, next) => {
      this.handshakes.push(socket.handshake.auth);
      const refusal = this.refusals.shift();
      next(refusal && Object.assign(new Error(refusal.message), { data: refusal }));
    });
    this.#io.on("connection", (socket) => {
      if (this.announcesMoves && socket.handshake.auth["resume"]) this.moved();
      this.sockets.push(socket);
      socket.onAny((event: string, data: Request["data"], ...rest: unknown[]) => {
        const answer = rest.pop() as Request["answer"];
        const request = { event, data, options: rest[0], socket, answer };
        this.requests.push(request);
        this.onRequest(request);
      });
      socket.emit("sync:welcome", {
        protocol: 1,
        node: "n1",
        sessionId: `s${this.sockets.length}`,
        user: "ada",
        resumed: false,
        resumeToken: null,
        expiresAt: Date.now() + 3_600_000,
        maxPayloadBytes: 65_536,
        reconnect: { minDelayMs: 0, windowMs: 0 },
        ...this.welcome,
      } satisfies Welcome);
    });
    this.#http.listen(port, "127.0.0.1");
    await once(this.#http, "listening");
    this.url = `http://127.0.0.1:${(this.#http.address() as AddressInfo).port}`;
  }

  async stop(): Promise<void> {
    await this.#io.close();
  }

  /** Grants a subscribe without publications; answers any other request with its own data. */
  grant({ event, data, answer }: Request): true {
    if (event === "sync:subscribe") {
      const position = this.positions.get(data.channel) ?? { epoch: "e1", offset: 0 };
      answer({ ok: true, channel: data.channel, position, recovered: data.position !== undefined, publications: [] });
    } else answer({ ok: true, data });
    return true;
  }

  moved(): void {
    this.sockets.at(-1)?.emit("sync:moved", {});
  }

  get socket(): Socket {
    return this.sockets.at(-1) as Socket;
  }

  of(event: string): Request[] {
    return this.requests.filter((request) => request.event === event);
  }

  /** Waits for the `count`th request with this event. */
  async request(event: string, count = 1): Promise<Request> {
    await eventually(() => this.of(event).length >= count);
    return this.of(event)[count - 1] as Request;
  }

  /** Closes the transport without a DISCONNECT packet, as a crash does. */
  cut(): void {
    this.socket.conn.close();
  }
}

/** Resolves with the client's state once it has this status. */
export function reached<Status extends ClientState["status"]>(
  client: Client,
  status: Status,
): Promise<Extract<ClientState, { status: Status }>> {
  return new Promise((resolve) => {
    const look = (state: ClientState): void => {
      if (state.status !== status) return;
      stop();
      resolve(state as Extract<ClientState, { status: Status }>);
    };
    const stop = client.onState(look);
    look(client.state);
  });
}

/** Clients of one gateway, without jitter by default. */
export function clientsOf(gateway: () => FakeGateway): {
  open(options?: Partial<ClientOptions>): Client;
  closeAll(): void;
} {
  const clients: Client[] = [];
  return {
    open: (options) => {
      const address = options?.bootstrap === undefined ? { url: gateway().url } : {};
      const client = connect({ ...address, token: () => "token", random: () => 0, ...options });
      clients.push(client);
      return client;
    },
    closeAll: () => {
      for (const client of clients.splice(0)) client.close();
    },
  };
}
