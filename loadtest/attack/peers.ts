/** Connections of attackers, redialled whenever the other side ends them, until the attack is over. */
import { once } from "node:events";
import { connect, type Socket } from "node:net";
import { setImmediate as turn, setTimeout as pause } from "node:timers/promises";
import { openRawWebsocket } from "../../test/support/raw-websocket.ts";
import { RawClient } from "../../test/support/raw-client.ts";
import type { SubscribeAck } from "../../shared/protocol/wire.ts";
import type { Load, Target } from "./attack.ts";

/** Pause after a failed connection: redialling a closed port must not use up the attacker's CPU. */
const afterRefusalMs = 10;

/** Repeats `attempt` on as many connections as the load allows. Resolves when the attack is over. */
export async function keepBusy(load: Load, attempt: (worker: number) => Promise<void>): Promise<void> {
  const over = load.over ? Promise.resolve() : once(load.signal, "abort");
  const worker = async (number: number): Promise<void> => {
    while (!load.over) {
      try {
        await Promise.race([attempt(number), over]);
        await turn();
      } catch {
        // Attacks expect refusals, resets and closed connections; the tally counts them.
        load.tally.refused++;
        await pause(afterRefusalMs);
      }
    }
  };
  await Promise.all(Array.from({ length: load.connections }, (_, number) => worker(number)));
}

/** Resolves when the socket has closed: by the other side, by the end of the attack, or after `openMs`. */
export async function untilGone(socket: Socket, load: Load, openMs?: number): Promise<void> {
  if (load.over) socket.destroy();
  if (socket.destroyed) return;
  const timer = openMs === undefined ? undefined : setTimeout(() => socket.destroy(), openMs);
  await new Promise<void>((resolve) => socket.once("close", () => resolve()));
  clearTimeout(timer);
}

/** Opens a TCP connection and sends nothing. Throws where it fails. */
export async function dial(url: URL, load: Load): Promise<Socket> {
  const socket = connect({ port: Number(url.port), host: url.hostname, ...load.dial });
  socket.on("error", () => socket.destroy());
  const gone = once(socket, "close").then(() => {
    throw new Error("closed before it opened");
  });
  await Promise.race([once(socket, "connect"), gone]);
  gone.catch(() => undefined);
  load.tally.connections++;
  return socket;
}

/** Opens a websocket without authentication; discards what it receives. */
export async function openWebsocket(target: Target, load: Load): Promise<Socket> {
  const socket = await openRawWebsocket(target.gateway, load.dial);
  socket.resume();
  load.tally.connections++;
  return socket;
}

/** Opens a session. Throws where the handshake is refused. */
export async function openSession(
  target: Target,
  load: Load,
  options: { claims?: Readonly<Record<string, unknown>>; auth?: object } = {},
): Promise<RawClient> {
  const token = await target.clientToken(options.claims);
  const client = await RawClient.connect(target.gateway, token, options.auth, load.dial);
  load.tally.connections++;
  return client;
}

/** Throws where the subscribe is refused or the connection ends before the ack. */
export async function subscribe(client: RawClient, channel: string): Promise<SubscribeAck> {
  const gone = client.closed.then(() => {
    throw new Error("closed before the ack");
  });
  const ack = await Promise.race([client.subscribe(channel), gone]);
  gone.catch(() => undefined);
  return ack;
}

/**
 * Writes the same bytes as fast as the socket accepts them, until the connection or the attack ends.
 *
 * @param frames the number of frames or requests in the bytes
 */
export async function pour(socket: Socket, bytes: Buffer, frames: number, load: Load): Promise<void> {
  while (!load.over && !socket.destroyed) {
    await write(socket, bytes);
    load.sent(frames, bytes.length);
  }
  socket.destroy();
}

/** Resolves once the socket accepts more, or has closed. */
export async function write(socket: Socket, bytes: Buffer | string): Promise<void> {
  if (socket.destroyed) return;
  if (socket.write(bytes)) {
    await turn();
    return;
  }
  const { promise, resolve } = Promise.withResolvers<void>();
  socket.once("drain", resolve);
  socket.once("close", resolve);
  await promise;
  socket.off("drain", resolve);
  socket.off("close", resolve);
}

/** Frames are joined up to about this size, so that the attacker's own system calls cost little. */
const pourBytes = 64 * 1024;

export function repeated(frame: Buffer): { bytes: Buffer; frames: number } {
  const frames = Math.max(1, Math.floor(pourBytes / frame.length));
  return { bytes: Buffer.concat(Array.from({ length: frames }, () => frame)), frames };
}

/** An HTTP request as text. */
export function httpRequest(
  line: string,
  host: URL,
  headers: Readonly<Record<string, string | number>> = {},
  body: string | Buffer = "",
): Buffer {
  const length = Buffer.byteLength(body);
  const all = { host: host.host, ...(length > 0 && { "content-length": length }), ...headers };
  const lines = Object.entries(all).map(([name, value]) => `${name}: ${value}\r\n`);
  return Buffer.concat([Buffer.from(`${line} HTTP/1.1\r\n${lines.join("")}\r\n`), Buffer.from(body)]);
}

/** Counts the HTTP answers on a connection by status. */
export function countAnswers(socket: Socket, load: Load, onAnswer: () => void = () => undefined): void {
  const { statuses } = load.tally;
  socket.on("data", (chunk: Buffer) => {
    for (const [, status = ""] of chunk.toString("latin1").matchAll(/HTTP\/1\.1 (\d{3})/g)) {
      statuses[status] = (statuses[status] ?? 0) + 1;
      onAnswer();
    }
  });
}

/** One request after the other on each connection, each after the answer to the one before. */
export async function askInTurn(url: URL, request: Buffer, load: Load): Promise<void> {
  await keepBusy(load, async () => {
    const socket = await dial(url, load);
    const ask = (): void => {
      if (load.over || socket.destroyed) return;
      socket.write(request);
      load.sent(1, request.length);
    };
    countAnswers(socket, load, ask);
    ask();
    await untilGone(socket, load);
  });
}

/** Repeats a request without waiting for answers. */
export async function pipeline(url: URL, request: Buffer, load: Load): Promise<void> {
  const { bytes, frames } = repeated(request);
  await keepBusy(load, async () => {
    const socket = await dial(url, load);
    countAnswers(socket, load);
    await pour(socket, bytes, frames, load);
  });
}
