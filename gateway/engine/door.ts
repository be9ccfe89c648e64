/** The websocket engine's part of the public port: which requests reach it, what each must look like, and who owns their sockets. */
import type { IncomingMessage, Server as HttpServer, ServerResponse } from "node:http";
import type { Socket as TcpSocket } from "node:net";
import type { ContainedErrors } from "../../shared/runtime/contained-errors.ts";
import type { OriginPolicy } from "../entrance/allowed-origins.ts";
import type { Arrival } from "../entrance/upgrade-gate.ts";

/** The Engine.IO protocol that the gateway speaks. */
const engineProtocol = "4";

export interface DoorOptions {
  /** Paths of the engine begin with it. */
  path: string;
  origins: OriginPolicy;
  /** Given every new connection, before it costs more than its request. */
  onArrival: (arrival: Arrival, request: IncomingMessage) => void;
  /** Called when the engine has taken the socket of an upgrade; `id`: of the connection that it belongs to already. */
  onUpgraded: (request: IncomingMessage, socket: TcpSocket, id: string | undefined) => void;
  errors: ContainedErrors;
}

/** A request that is refused before the engine sees it. */
interface Refusal {
  status: 400 | 403 | 404 | 503;
  reason: string;
  retryAfterSeconds?: number;
}

type OnRequest = (request: IncomingMessage, response: ServerResponse) => void;
type OnUpgrade = (request: IncomingMessage, socket: TcpSocket, head: Buffer) => void;

/** When the request of a connection came, by `performance.now()`. */
const arrivedAt = new WeakMap<IncomingMessage, number>();

export function arrivalOf(request: IncomingMessage): number {
  return arrivedAt.get(request) ?? performance.now();
}

/** Puts itself before the engine's listeners. */
export function guardDoor(httpServer: HttpServer, options: DoorOptions): void {
  const isEngines = ({ url = "" }: IncomingMessage): boolean => url.startsWith(options.path);
  // An upgrade to anything else is an ordinary request: HTTP lets a server ignore the wish.
  (httpServer as ServerInternals).shouldUpgradeCallback = (request) =>
    request.headers.upgrade?.toLowerCase() === "websocket";

  for (const onRequest of httpServer.listeners("request") as OnRequest[]) {
    httpServer.off("request", onRequest);
    const receive = (request: IncomingMessage, response: ServerResponse): void => {
      const open = (): void => onRequest.call(httpServer, request, response);
      if (!isEngines(request) || connectionIn(request) !== undefined) return open();
      const refusal = refusalOf(request, options);
      if (refusal) refuseRequest(response, refusal);
      else options.onArrival(pollingArrival(request, response, open), request);
    };
    httpServer.on("request", (request, response) =>
      options.errors.contain(
        "http",
        () => receive(request, response),
        () => response.destroy(),
      ),
    );
  }
  const engineListeners = httpServer.listeners("upgrade") as OnUpgrade[];
  for (const onUpgrade of engineListeners) httpServer.off("upgrade", onUpgrade);
  const receiveUpgrade: OnUpgrade = (request, socket, head) => {
    if (!isEngines(request)) return refuseUpgrade(socket, { status: 404, reason: "there is no websocket here" });
    const id = connectionIn(request);
    const open = (): void => {
      for (const onUpgrade of engineListeners) onUpgrade.call(httpServer, request, socket, head);
      options.onUpgraded(request, socket, id);
    };
    if (id !== undefined) return open();
    const refusal = refusalOf(request, options);
    if (refusal) refuseUpgrade(socket, refusal);
    else options.onArrival(upgradeArrival(request, socket, open), request);
  };
  httpServer.on("upgrade", (request, socket: TcpSocket, head: Buffer) => {
    // Node has given the socket away. This listener stays: the engine takes the socket late, or refuses it.
    socket.on("error", destroy);
    options.errors.contain(
      "http",
      () => receiveUpgrade(request, socket, head),
      () => socket.destroy(),
    );
  });
}

interface ServerInternals extends HttpServer {
  /** Node's own option of a server. */
  shouldUpgradeCallback: (request: IncomingMessage) => boolean;
}

function destroy(this: TcpSocket): void {
  this.destroy();
}

/**
 * What the engine takes for the id of one of its connections, read as it does: the last of several. Undefined: the request
 * begins a connection.
 */
export function connectionIn({ url = "" }: IncomingMessage): string | undefined {
  return url.includes("sid=") ? lastOf(url, "sid") || undefined : undefined;
}

function lastOf(url: string, parameter: string): string | undefined {
  return URL.parse(url, "http://engine")?.searchParams.getAll(parameter).at(-1);
}

function refusalOf({ url = "", headers }: IncomingMessage, options: DoorOptions): Refusal | undefined {
  if (!options.origins.allows(headers.origin, headers.host))
    return { status: 403, reason: "this origin may not connect" };
  if (lastOf(url, "EIO") !== engineProtocol) {
    return { status: 400, reason: `this server speaks Engine.IO ${engineProtocol} (EIO=${engineProtocol})` };
  }
  return undefined;
}

function upgradeArrival(request: IncomingMessage, socket: TcpSocket, open: () => void): Arrival {
  arrivedAt.set(request, performance.now());
  return {
    get gone() {
      return socket.destroyed;
    },
    open,
    refuse: (retryAfterSeconds) => refuseUpgrade(socket, { ...busy, retryAfterSeconds }),
  };
}

function pollingArrival(request: IncomingMessage, response: ServerResponse, open: () => void): Arrival {
  arrivedAt.set(request, performance.now());
  return {
    get gone() {
      return response.destroyed;
    },
    open,
    refuse: (retryAfterSeconds) => refuseRequest(response, { ...busy, retryAfterSeconds }),
  };
}

const busy = { status: 503, reason: "too many connect at the moment" } as const;
const statusTexts = { 400: "Bad Request", 403: "Forbidden", 404: "Not Found", 503: "Service Unavailable" } as const;

function refuseUpgrade(socket: TcpSocket, { status, reason, retryAfterSeconds }: Refusal): void {
  const head = [
    `HTTP/1.1 ${status} ${statusTexts[status]}`,
    "Connection: close",
    "Content-Type: text/plain",
    ...(retryAfterSeconds === undefined ? [] : [`Retry-After: ${retryAfterSeconds}`]),
    `Content-Length: ${reason.length}`,
  ];
  // What the client sends from here on is dropped.
  socket.resume();
  socket.write(`${head.join("\r\n")}\r\n\r\n${reason}`);
  socket.destroySoon();
}

function refuseRequest(response: ServerResponse, { status, reason, retryAfterSeconds }: Refusal): void {
  response
    .writeHead(status, {
      connection: "close",
      "content-type": "text/plain",
      ...(retryAfterSeconds !== undefined && { "retry-after": String(retryAfterSeconds) }),
    })
    .end(reason);
}
