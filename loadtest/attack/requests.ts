/** Events and requests of clients that have a session. */
import { setTimeout as pause } from "node:timers/promises";
import { textFrame } from "../../test/support/raw-websocket.ts";
import type { RawClient } from "../../test/support/raw-client.ts";
import { type Attack, attackedNamespace, type Load, type Target } from "./attack.ts";
import { keepBusy, openSession, openWebsocket, pour, repeated, untilGone, write } from "./peers.ts";

/** A namespace that no token allows: the subscribe hook decides, and its grants are to be renewed. */
const grantedNamespace = "granted";
const grantedChannels = 200;
/** As many of the gateway's own requests as may come at once (LIM-2), and as fast as they may follow. */
const requestsAtOnce = 600;
const requestsPerSecond = 200;
const storedChannel = `${attackedNamespace}:stored`;
const storedPublications = 1_000;
const storedBytesEach = 500;
const answerWithinMs = 1_000;

/** Fills the history of a channel with as much as one answer may hold. */
async function fillHistory({ api, apiToken }: Target): Promise<void> {
  const item = { channel: storedChannel, event: "filler", data: "x".repeat(storedBytesEach) };
  const answer = await fetch(new URL("/v1/publish/batch", api), {
    method: "POST",
    headers: { authorization: `Bearer ${apiToken}`, "content-type": "application/json" },
    body: JSON.stringify(Array.from({ length: storedPublications }, () => item)),
  });
  if (!answer.ok) throw new Error(`the history could not be filled: ${answer.status}`);
}

/** Sends one frame again and again as fast as LIM-2 allows. @param reads false: answers stay in the kernel. */
async function repeatRequest(client: RawClient, request: Buffer, load: Load, reads: boolean): Promise<void> {
  if (!reads) client.socket.pause();
  const bytes = Buffer.concat(Array.from({ length: requestsAtOnce }, () => request));
  await write(client.socket, bytes);
  load.sent(requestsAtOnce, bytes.length);
  while (!load.over && !client.socket.destroyed) {
    await pause(1_000 / requestsPerSecond);
    await write(client.socket, request);
    load.sent(1, request.length);
  }
  client.socket.destroy();
}

function requestFrame(event: string, payload: unknown): Buffer {
  return textFrame(`421${JSON.stringify([event, payload])}`);
}

/** Sends the frame once on each connection, then waits for what comes. */
async function sendOnce(target: Target, load: Load, frame: Buffer, authenticated: boolean): Promise<void> {
  await keepBusy(load, async () => {
    const socket = authenticated ? (await openSession(target, load)).socket : await openWebsocket(target, load);
    load.sent(1, frame.length);
    await write(socket, frame);
    socket.once("data", () => socket.destroy());
    await untilGone(socket, load, answerWithinMs);
  });
}

const manyArguments = textFrame(`42["attack.echo"${",0".repeat(130_000)}]`);
const brackets = `${"[".repeat(190_000)}${"]".repeat(190_000)}`;

export const requestAttacks: readonly Attack[] = [
  {
    name: "many-arguments",
    does: "one event with 130,000 arguments",
    needs: "client token",
    run: async (target, load) => sendOnce(target, load, manyArguments, true),
  },
  {
    name: "many-arguments-anonymous",
    does: "the same without having authenticated",
    needs: "nothing",
    run: async (target, load) => sendOnce(target, load, manyArguments, false),
  },
  {
    name: "deep-events",
    does: "events of 190,000 brackets within each other",
    needs: "client token",
    run: async (target, load) => sendOnce(target, load, textFrame(`421["attack.echo",${brackets}]`), true),
  },
  {
    name: "event-flood",
    does: "events without an ack, as fast as they are taken",
    needs: "client token",
    run: async (target, load) => {
      const { bytes, frames } = repeated(textFrame('42["no.such.route",0]'));
      await keepBusy(load, async () => pour((await openSession(target, load)).socket, bytes, frames, load));
    },
  },
  {
    name: "history-unread",
    does: "600 reads of 512 KiB of history at once, and 200 more a second, whose answers nobody reads",
    needs: "client token",
    prepare: fillHistory,
    run: async (target, load) =>
      keepBusy(load, async () => {
        const client = await openSession(target, load);
        await client.subscribe(storedChannel);
        await repeatRequest(client, requestFrame("sync:history", { channel: storedChannel }), load, false);
      }),
  },
  {
    name: "history-read",
    does: "the same with answers that are read",
    needs: "client token",
    prepare: fillHistory,
    run: async (target, load) =>
      keepBusy(load, async () => {
        const client = await openSession(target, load);
        await client.subscribe(storedChannel);
        await repeatRequest(client, requestFrame("sync:history", { channel: storedChannel }), load, true);
      }),
  },
  {
    name: "replays-unread",
    does: "600 subscribes from an old position at once, and 200 more a second, whose answers nobody reads",
    needs: "client token",
    prepare: fillHistory,
    run: async (target, load) =>
      keepBusy(load, async () => {
        const client = await openSession(target, load);
        const { epoch, offset } = (await client.subscribe(storedChannel)).position;
        const position = { epoch, offset: Math.max(0, offset - storedPublications + 10) };
        const request = requestFrame("sync:subscribe", { channel: storedChannel, position });
        await repeatRequest(client, request, load, false);
      }),
  },
  {
    name: "refresh-with-grants",
    does: "200 refreshes a second of a session that holds 200 grants",
    needs: "client token",
    run: async (target, load) =>
      keepBusy(load, async (worker) => {
        const user = { sub: `attacker-${worker}` };
        const client = await openSession(target, load, { claims: user });
        for (let number = 0; number < grantedChannels; number++) {
          await client.subscribe(`${grantedNamespace}:${worker}-${number}`);
        }
        const token = await target.clientToken(user);
        await repeatRequest(client, requestFrame("sync:refresh", { token }), load, true);
      }),
  },
  {
    name: "presence-reads",
    does: "600 reads of presence at once, and 200 more a second",
    needs: "client token",
    run: async (target, load) =>
      keepBusy(load, async () => {
        const client = await openSession(target, load);
        const channel = `present:${attackedNamespace}`;
        await client.subscribe(channel);
        await repeatRequest(client, requestFrame("sync:presence", { channel }), load, true);
      }),
  },
  {
    name: "subscribe-churn",
    does: "subscribes and unsubscribes of new channels, 200 a second",
    needs: "client token",
    run: async (target, load) => {
      let number = 0;
      await keepBusy(load, async () => {
        const client = await openSession(target, load);
        while (!load.over && !client.socket.destroyed) {
          const channel = `${attackedNamespace}:churn-${number++}`;
          const frames = [requestFrame("sync:subscribe", { channel }), requestFrame("sync:unsubscribe", { channel })];
          for (const frame of frames) await write(client.socket, frame);
          load.sent(frames.length, Buffer.concat(frames).length);
          await pause((frames.length * 1_000) / requestsPerSecond);
        }
      });
    },
  },
];
