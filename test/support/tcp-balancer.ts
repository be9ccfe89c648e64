/** A balancer of connections: asks each target for its health, and gives new connections to those that are ready, in turn. */
import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import { setTimeout as pause } from "node:timers/promises";

export interface BalancedTarget {
  readonly port: number;
  /** Answers `/readyz`. */
  readonly adminPort: number;
}

export interface TcpBalancer {
  readonly port: number;
  /** Targets that get new connections. */
  readonly readyCount: number;
  stop(): Promise<void>;
}

const checkEveryMs = 100;
const checkTimeoutMs = 2_000;

/** Like HAProxy in TCP mode: a connection that a target refuses goes to the next one. */
export async function startTcpBalancer(targets: readonly BalancedTarget[]): Promise<TcpBalancer> {
  const ready = new Set<BalancedTarget>();
  const sockets = new Set<Socket>();
  let turn = 0;
  let stopped = false;

  /** Until it is stopped, one check at a time: an answer from before another one would be news of the past. */
  async function keepChecking(target: BalancedTarget): Promise<void> {
    while (!stopped) {
      await check(target);
      await pause(checkEveryMs);
    }
  }

  async function check(target: BalancedTarget): Promise<void> {
    const url = `http://127.0.0.1:${target.adminPort}/readyz`;
    const answer = await fetch(url, { signal: AbortSignal.timeout(checkTimeoutMs) }).catch(() => undefined);
    await answer?.arrayBuffer();
    if (answer?.ok) ready.add(target);
    else ready.delete(target);
  }

  function open(client: Socket, left: readonly BalancedTarget[]): void {
    const [target, ...others] = left;
    if (!target) {
      client.destroy();
      return;
    }
    const server = connect(target.port, "127.0.0.1");
    sockets.add(server);
    let isOpen = false;
    server.once("connect", () => {
      isOpen = true;
      client.pipe(server).pipe(client);
    });
    // The close follows.
    server.on("error", () => undefined);
    server.once("close", () => {
      sockets.delete(server);
      if (isOpen) client.destroySoon();
      else open(client, others);
    });
    client.once("close", () => server.destroy());
  }

  const listener = createServer({ pauseOnConnect: true, noDelay: true }, (client) => {
    sockets.add(client);
    client.on("error", () => undefined);
    client.once("close", () => sockets.delete(client));
    const candidates = targets.filter((target) => ready.has(target));
    const first = turn++ % Math.max(1, candidates.length);
    open(client, [...candidates.slice(first), ...candidates.slice(0, first)]);
  });
  listener.listen(0, "127.0.0.1");
  await once(listener, "listening");
  await Promise.all(targets.map(check));
  const checking = Promise.all(targets.map(keepChecking));
  return {
    port: (listener.address() as AddressInfo).port,
    get readyCount() {
      return ready.size;
    },
    stop: async () => {
      stopped = true;
      await checking;
      for (const socket of sockets) socket.destroy();
      listener.close();
      await once(listener, "close");
    },
  };
}
