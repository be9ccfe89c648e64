/** The websocket engine's part of the public port: which requests reach the engine, and which are refused before. */
import type { IncomingMessage, Server as HttpServer, ServerResponse } from "node:http";
import type { Socket as TcpSocket } from "node:net";
import type { ContainedErrors } from "../../shared/runtime/contained-errors.ts";
import type { OriginPolicy } from "../entrance/allowed-origins.ts";
import type { Arrival } from "../entrance/upgrade-gate.ts";

/** The Engine.IO protocol that the gateway speaks. */
const engineProtocol = "4";

export interface DoorOptions {
  /** Prefix of the engine's paths. */
  path: string;
  origins: OriginPolicy;
  /** Those that clients may use. */
  transports: readonly string[];
  addressOf: (request: IncomingMessage) => string;
  /** Called with each request for a new connection, before it costs more than a request. */
  onArrival: (arrival: Arrival) => void;
  /** Called when the engine has taken the socket of an upgrade. `id`: of the polling connection that it belongs to. */
  onUpgraded: (request: IncomingMessage, socket: TcpSocket, id: string | undefined) => void;
  errors: ContainedErrors;
}

/** The answer to a request that the door keeps from the engine. */
interface Refusal {
  status: 400 | 403 | 404 | 503;
  reason: string;
  retryAfterSeconds?: number;
  /** The page of this origin may read the reason. */
  readableBy?: string | undefined;
}

type OnRequest = (request: IncomingMessage, response: ServerResponse) => void;
type OnUpgrade = (request: IncomingMessage, socket: TcpSocket, head: Buffer) => void;

const requestTimes = new WeakMap<IncomingMessage, number>();

/** When a request for a new connection arrived, by `performance.now()`. */
export function requestedAt(request: IncomingMessage): number {
  return requestTimes.get(request) ?? performance.now();
}

/** Puts the checks of the door before the engine's listeners. Call it after the engine has added them. */
export function guardDoor(httpServer: HttpServer, options: DoorOptions): void {
  const isForEngine = ({ url = "" }: IncomingMessage): boolean => url.startsWith(options.path);
  // Any other upgrade is an ordinary request: HTTP lets a server ignore the header.
  (httpServer as ServerInternals).shouldUpgradeCallback = (request) =>
    request.headers.upgrade?.toLowerCase() === "websocket";

  for (const onRequest of httpServer.listeners("request") as OnRequest[]) {
    httpServer.off("request", onRequest);
    const receive = (request: IncomingMessage, response: ServerResponse): void => {
      const open = (): void => onRequest.call(httpServer, request, response);
      if (!isForEngine(request) || connectionIdIn(request) !== undefined) return open();
      receiveArrival(request, response, { open, refuse: (refusal) => refuseRequest(response, refusal) }, options);
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
    const refuse = (refusal: Refusal): void => refuseUpgrade(socket, refusal);
    if (!isForEngine(request)) return refuse({ status: 404, reason: "no websocket at this path" });
    const id = connectionIdIn(request);
    const open = (): void => {
      socket.off("end", destroy);
      for (const onUpgrade of engineListeners) onUpgrade.call(httpServer, request, socket, head);
      options.onUpgraded(request, socket, id);
    };
    if (id !== undefined) return open();
    // Its peer may leave while it waits.
    socket.once("end", destroy);
    receiveArrival(request, socket, { open, refuse }, options);
  };
  httpServer.on("upgrade", (request, socket: TcpSocket, head: Buffer) =>
    options.errors.contain(
      "http",
      () => receiveUpgrade(request, socket, head),
      () => socket.destroy(),
    ),
  );
}

interface ServerInternals extends HttpServer {
  /** Node's own option of a server. */
  shouldUpgradeCallback: (request: IncomingMessage) => boolean;
}

function destroy(this: TcpSocket): void {
  this.destroy();
}

/**
 * The id of the connection that a request belongs to, read as the engine reads it: the last `sid` of several. Undefined: the
 * request begins a connection.
 */
export function connectionIdIn({ url = "" }: IncomingMessage): string | undefined {
  return url.includes("sid=") ? lastOf(url, "sid") || undefined : undefined;
}

function lastOf(url: string, parameter: string): string | undefined {
  return URL.parse(url, "http://engine")?.searchParams.getAll(parameter).at(-1);
}

/** Refuses a request for a new connection, or gives it to `onArrival`. */
function receiveArrival(
  request: IncomingMessage,
  stream: TcpSocket | ServerResponse,
  { open, refuse }: { open: () => void; refuse: (refusal: Refusal) => void },
  { origins, transports, addressOf, onArrival, errors }: DoorOptions,
): void {
  const { url = "", headers } = request;
  if (!origins.allows(headers.origin, headers.host)) {
    return refuse({ status: 403, reason: "this origin may not connect" });
  }
  if (lastOf(url, "EIO") !== engineProtocol) {
    return refuse({ status: 400, reason: `this server speaks Engine.IO ${engineProtocol} (EIO=${engineProtocol})` });
  }
  if (lastOf(url, "transport") === "polling") {
    if (!transports.includes("polling"))
      return refuse({ status: 400, reason: pollingIsOff, readableBy: headers.origin });
    // A page of any origin may run its answers, and its forms hide bytes and packets from those that count them.
    if (lastOf(url, "j") !== undefined)
      return refuse({ status: 400, reason: "polling by JSON-P (j) is not supported" });
  }
  requestTimes.set(request, performance.now());
  onArrival({
    get address() {
      return addressOf(request);
    },
    get gone() {
      return stream.destroyed;
    },
    // Called later, too, where no other boundary contains it.
    open: errors.guarded("http", open, () => stream.destroy()),
    refuse: (retryAfterSeconds) =>
      refuse({ status: 503, reason: "too many clients connect at the moment", retryAfterSeconds }),
  });
}

/** Stock clients begin with polling, and show this in `error.context.responseText`. */
const pollingIsOff =
  'polling is off: connect with { transports: ["websocket"] }, or list polling in GATEWAY_TRANSPORTS of the gateways';

const statusTexts = { 400: "Bad Request", 403: "Forbidden", 404: "Not Found", 503: "Service Unavailable" } as const;

function refuseUpgrade(socket: TcpSocket, { status, reason, retryAfterSeconds }: Refusal): void {
  const head = [
    `HTTP/1.1 ${status} ${statusTexts[status]}`,
    "Connection: close",
    "Content-Type: text/plain",
    ...(retryAfterSeconds === undefined ? [] : [`Retry-After: ${retryAfterSeconds}`]),
    `Content-Length: ${reason.length}`,
  ];
  // Drops what the client still sends.
  socket.resume();
  socket.write(`${head.join("\r\n")}\r\n\r\n${reason}`);
  socket.destroySoon();
}

function refuseRequest(response: ServerResponse, { status, reason, retryAfterSeconds, readableBy }: Refusal): void {
  response
    .writeHead(status, {
      connection: "close",
      "content-type": "text/plain",
      ...(retryAfterSeconds !== undefined && { "retry-after": String(retryAfterSeconds) }),
      ...(readableBy !== undefined && { "access-control-allow-origin": readableBy, vary: "origin" }),
    })
    .end(reason);
}
