/** Clients that read slowly or not at all. */
import { setTimeout as pause } from "node:timers/promises";
import { pingFrame, textFrame } from "../../test/support/raw-websocket.ts";
import { type Attack, attackedNamespace, type Load, type Target } from "./attack.ts";
import { keepBusy, openSession, openWebsocket, repeated, subscribe, untilGone, write } from "./peers.ts";

const publishesPerSecond = 50;
const publishedBytes = 8 * 1024;

async function publish({ api, apiToken }: Target, channel: string, data: string): Promise<void> {
  await fetch(new URL("/v1/publish", api), {
    method: "POST",
    headers: { authorization: `Bearer ${apiToken}`, "content-type": "application/json" },
    body: JSON.stringify({ channel, event: "filler", data }),
    signal: AbortSignal.timeout(2_000),
  }).then(
    (answer) => answer.arrayBuffer(),
    () => undefined,
  );
}

async function publishMuch(target: Target, channel: string, load: Load): Promise<void> {
  const data = "x".repeat(publishedBytes);
  while (!load.over) {
    await publish(target, channel, data);
    await pause(1_000 / publishesPerSecond);
  }
}

export const readerAttacks: readonly Attack[] = [
  {
    name: "slow-readers",
    does: "100 sessions that follow a busy channel and read one byte now and then",
    needs: "client token",
    connectionsEach: 25,
    run: async (target, load) => {
      const channel = `${attackedNamespace}:busy`;
      const readers = keepBusy(load, async () => {
        const client = await openSession(target, load);
        await subscribe(client, channel);
        load.sent(1, 0);
        client.socket.pause();
        while (!load.over && !client.socket.destroyed) {
          await pause(250);
          client.socket.read(1);
        }
      });
      await Promise.all([publishMuch(target, channel, load), readers]);
    },
  },
  {
    name: "unread-pongs",
    does: "pings of the websocket, without reading the pongs",
    needs: "nothing",
    run: async (target, load) => {
      const { bytes, frames } = repeated(pingFrame("x".repeat(125)));
      await keepBusy(load, async () => {
        const socket = await openWebsocket(target, load);
        socket.pause();
        while (!load.over && !socket.destroyed) {
          await Promise.race([write(socket, bytes), pause(1_000)]);
          load.sent(frames, bytes.length);
        }
      });
    },
  },
  {
    name: "unread-acks",
    does: "events at the allowed rate, without reading the acks",
    needs: "client token",
    run: async (target, load) =>
      keepBusy(load, async () => {
        const { socket } = await openSession(target, load);
        socket.pause();
        const frame = textFrame('421["no.such.route",0]');
        while (!load.over && !socket.destroyed) {
          await write(socket, frame);
          load.sent(1, frame.length);
          await pause(20);
        }
      }),
  },
  {
    name: "frozen-websockets",
    does: "websockets that send nothing, 250 for each connection",
    needs: "nothing",
    connectionsEach: 250,
    run: async (target, load) =>
      keepBusy(load, async () => {
        const socket = await openWebsocket(target, load);
        load.sent(1, 0);
        await untilGone(socket, load);
      }),
  },
];
