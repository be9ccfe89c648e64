/** A network link that can break: stands between a client and a server, both of which are real. */
import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";

/**
 * `stalled`: connections stay open, nothing passes. `deaf`: what the server sends is swallowed; `mute`: what the client sends is.
 * `slow`: each chunk waits. `closed`: new connections are reset at once.
 */
export type LinkState = "open" | "stalled" | "deaf" | "mute" | "slow" | "closed";

export interface TcpProxy {
  readonly port: number;
  readonly state: LinkState;
  /** Connections that pass through it. */
  readonly connections: number;
  /** Of every connection, present and to come. What was swallowed stays lost: such connections are cut. */
  set(state: LinkState): void;
  /** Stalls the link once servers have sent so many more bytes, those of the last chunk included. Resolves then. */
  stallAfter(bytes: number): Promise<void>;
  /** Resets all connections; `halfOpen`: the client's side only, the server is never told. New ones pass, as the state allows. */
  cut(options?: { halfOpen?: boolean }): void;
  /** Opens the link; connections that lost bytes are cut. */
  heal(): void;
  /** New connections go to another port; those that are open stay where they are. */
  redirect(target: number): void;
  stop(): Promise<void>;
}

interface Pair {
  readonly client: Socket;
  readonly server: Socket;
  swallowed: boolean;
}

const slowMs = 50;

/** @param target port on the loopback interface. */
export async function startTcpProxy(target: number): Promise<TcpProxy> {
  let targetNow = target;
  const pairs = new Set<Pair>();
  /** Their clients are gone; the server is not told until the link heals. */
  const orphans = new Set<Socket>();
  let state: LinkState = "open";
  let stopped = false;
  let dueStall: { bytesLeft: number; reached: () => void } | undefined;

  function drop(pair: Pair): void {
    pairs.delete(pair);
    pair.client.resetAndDestroy();
    pair.server.resetAndDestroy();
  }
  function passes(from: "client" | "server"): boolean {
    return !(state === "deaf" && from === "server") && !(state === "mute" && from === "client");
  }
  function pipe(pair: Pair, from: "client" | "server"): void {
    const [source, sink] = from === "client" ? [pair.client, pair.server] : [pair.server, pair.client];
    source.on("data", (chunk: Buffer) => {
      if (!passes(from)) {
        pair.swallowed = true;
        return;
      }
      const drained = sink.write(chunk);
      if (from === "server") countForStall(chunk.length);
      if (drained && state !== "slow") return;
      source.pause();
      const goOn = (): void => {
        if (state !== "stalled") source.resume();
      };
      if (drained) setTimeout(goOn, slowMs);
      else sink.once("drain", goOn);
    });
    source.on("end", () => sink.end());
    source.on("error", () => drop(pair));
    source.on("close", () => {
      if (pairs.has(pair)) drop(pair);
    });
  }
  function countForStall(bytes: number): void {
    if (!dueStall) return;
    dueStall.bytesLeft -= bytes;
    if (dueStall.bytesLeft > 0) return;
    const { reached } = dueStall;
    dueStall = undefined;
    proxy.set("stalled");
    reached();
  }
  function apply(pair: Pair): void {
    for (const socket of [pair.client, pair.server]) {
      if (state === "stalled") socket.pause();
      else socket.resume();
    }
  }

  const listener = createServer({ allowHalfOpen: true, pauseOnConnect: true }, (client) => {
    if (state === "closed" || stopped) {
      client.resetAndDestroy();
      return;
    }
    const server = connect({ port: targetNow, host: "127.0.0.1", allowHalfOpen: true });
    const pair: Pair = { client, server, swallowed: false };
    pairs.add(pair);
    pipe(pair, "client");
    pipe(pair, "server");
    apply(pair);
  });
  listener.listen(0, "127.0.0.1");
  await once(listener, "listening");

  const proxy: TcpProxy = {
    port: (listener.address() as AddressInfo).port,
    get state() {
      return state;
    },
    get connections() {
      return pairs.size;
    },
    set: (next) => {
      state = next;
      for (const pair of pairs) {
        if (pair.swallowed || state === "closed") drop(pair);
        else apply(pair);
      }
    },
    stallAfter: async (bytes) => {
      const { promise, resolve } = Promise.withResolvers<void>();
      dueStall = { bytesLeft: bytes, reached: resolve };
      return promise;
    },
    cut: ({ halfOpen = false } = {}) => {
      for (const pair of pairs) {
        if (!halfOpen) {
          drop(pair);
          continue;
        }
        pairs.delete(pair);
        pair.server.removeAllListeners("data");
        pair.server.resume();
        orphans.add(pair.server);
        pair.server.once("close", () => orphans.delete(pair.server));
        pair.client.resetAndDestroy();
      }
    },
    heal: () => {
      proxy.set("open");
      for (const orphan of orphans) orphan.resetAndDestroy();
    },
    redirect: (next) => void (targetNow = next),
    stop: async () => {
      stopped = true;
      proxy.set("closed");
      for (const orphan of orphans) orphan.resetAndDestroy();
      listener.close();
      await once(listener, "close");
    },
  };
  return proxy;
}
