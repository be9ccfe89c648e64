/** A stock Socket.IO client, with its events recorded so that tests can wait for them. */
import { SignJWT } from "jose";
import { io, type Socket } from "socket.io-client";
import type { ConnectRefusal, WireError } from "../../shared/protocol/codes.ts";
import type { Position, SubscribeAck, Welcome } from "../../shared/protocol/wire.ts";
import { jwtSecret } from "./fleet.ts";

export interface Received {
  event: string;
  data: unknown;
  meta: unknown;
}

export interface StockClient {
  readonly socket: Socket;
  readonly welcome: Welcome;
  /** Every event, in order, but for `sync:welcome`. */
  readonly received: readonly Received[];
  /** Resolves with the first event, past or to come, that satisfies the condition. */
  next(condition: (received: Received) => boolean): Promise<Received>;
  request(event: string, ...args: unknown[]): Promise<Answer>;
  subscribe(channel: string, position?: Position): Promise<SubscribeAck & { ok: true }>;
  /** Resolves with Socket.IO's reason, once the client is disconnected. */
  readonly disconnected: Promise<string>;
}

/** An ack: tests look into it as they expect it to be. */
export interface Answer extends Record<string, unknown> {
  ok: boolean;
  data?: unknown;
  error?: WireError;
}

export async function userToken(claims: Record<string, unknown> = {}, secret = jwtSecret): Promise<string> {
  return new SignJWT({ sub: "ada", exp: Math.floor(Date.now() / 1000) + 3_600, channels: ["board:*"], ...claims })
    .setProtectedHeader({ alg: "HS256" })
    .sign(new TextEncoder().encode(secret));
}

const open = new Set<Socket>();

/** For afterEach. */
export function closeClients(): void {
  for (const socket of open) socket.disconnect();
  open.clear();
}

function newSocket(url: string, auth: object): Socket {
  const socket = io(url, { transports: ["websocket"], auth, forceNew: true, reconnection: false });
  open.add(socket);
  return socket;
}

/** @returns the refusal of a connection. */
export async function refusedConnect(url: string, auth: object): Promise<ConnectRefusal> {
  const socket = newSocket(url, auth);
  return new Promise((resolve, reject) => {
    socket.once("connect", () => reject(new Error("the connection was accepted")));
    socket.once("connect_error", (error: Error & { data?: ConnectRefusal }) => {
      if (error.data) resolve(error.data);
      else reject(error);
    });
  });
}

/** @returns the error that a client with the default transports shows, and what the gateway answered. */
export async function pollingError(url: string): Promise<string> {
  const socket = io(url, { forceNew: true, reconnection: false });
  open.add(socket);
  return new Promise((resolve) => {
    // The client empties the answer once its listeners have returned.
    socket.once("connect_error", (error: Error & { context?: { responseText: string } }) => {
      resolve(`${error.message}: ${error.context?.responseText}`);
    });
  });
}

/** Connects and waits for the welcome. */
export async function connectClient(
  url: string,
  claims: Record<string, unknown> = {},
  auth: object = {},
): Promise<StockClient> {
  const socket = newSocket(url, { token: await userToken(claims), ...auth });
  const received: Received[] = [];
  const waiting = new Set<() => void>();
  const disconnected = new Promise<string>((resolve) => socket.once("disconnect", resolve));
  const welcome = await new Promise<Welcome>((resolve, reject) => {
    socket.once("connect_error", reject);
    socket.onAny((event: string, data: unknown, meta: unknown) => {
      if (event === "sync:welcome") resolve(data as Welcome);
      else received.push({ event, data, meta });
      for (const check of waiting) check();
    });
  });

  function request(event: string, ...args: unknown[]): Promise<Answer> {
    const answer = socket.timeout(60_000).emitWithAck(event, ...args) as Promise<Answer>;
    // A test that fails before it awaits the answer ends the client, and has its own failure to report.
    answer.catch(() => undefined);
    return answer;
  }
  return {
    socket,
    welcome,
    received,
    disconnected,
    request,
    subscribe: async (channel, position) => {
      const ack = await request("sync:subscribe", { channel, ...(position && { position }) });
      if (!ack.ok) throw new Error(`not subscribed: ${JSON.stringify(ack)}`);
      return ack as unknown as SubscribeAck & { ok: true };
    },
    next: (condition) =>
      new Promise((resolve) => {
        const check = (): void => {
          const found = received.find(condition);
          if (!found) return;
          waiting.delete(check);
          resolve(found);
        };
        waiting.add(check);
        check();
      }),
  };
}
