/** Events and requests of clients that have a session. */
import { setTimeout as pause } from "node:timers/promises";
import { textFrame } from "../../test/support/raw-websocket.ts";
import type { RawClient } from "../../test/support/raw-client.ts";
import { type Attack, attackedNamespace, type Load, type Target } from "./attack.ts";
import { keepBusy, openSession, openWebsocket, pour, repeated, subscribe, untilGone, write } from "./peers.ts";

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

/** Members of one channel, for each connection that was asked for; PRES-3 lists 200. */
const crowdEach = 48;
const presentChannel = `present:${attackedNamespace}`;

/** One connection in so many attacks, before the others, which only follow the channel. */
async function beforeCrowd(target: Target, load: Load, attack: (client: RawClient) => Promise<void>): Promise<void> {
  const info = "x".repeat(1_000);
  await keepBusy(load, async (worker) => {
    const client = await openSession(target, load, { claims: { sub: `member-${worker}`, info } });
    await subscribe(client, presentChannel);
    if (worker % crowdEach === 0) await attack(client);
    else await untilGone(client.socket, load);
  });
}

/** As many events as a connection may send (LIM-1). */
const eventsAtOnce = 100;
const eventsPerSecond = 50;

const atEventRate: readonly { name: string; does: string; data: () => string }[] = [
  {
    name: "large-events",
    does: "events of 64 KiB at the rate that is allowed",
    data: () => JSON.stringify("x".repeat(65_000)),
  },
  {
    name: "escaped-events",
    does: "events of 64 KiB that take 380 KiB on the wire, at the rate that is allowed",
    data: () => `"${String.raw`\u0061`.repeat(65_000)}"`,
  },
  {
    name: "wide-events",
    does: "events of 21,000 empty lists, at the rate that is allowed",
    data: () => `[${Array.from({ length: 21_000 }, () => "[]").join(",")}]`,
  },
];

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
        await subscribe(client, storedChannel);
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
        await subscribe(client, storedChannel);
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
        const { epoch, offset } = (await subscribe(client, storedChannel)).position;
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
          await subscribe(client, `${grantedNamespace}:${worker}-${number}`);
        }
        const token = await target.clientToken(user);
        await repeatRequest(client, requestFrame("sync:refresh", { token }), load, true);
      }),
  },
  {
    name: "presence-reads",
    does: "600 reads of the presence of 190 members at once, and 200 more a second",
    needs: "client token",
    connectionsEach: crowdEach,
    run: async (target, load) =>
      beforeCrowd(target, load, async (client) => {
        await repeatRequest(client, requestFrame("sync:presence", { channel: presentChannel }), load, true);
      }),
  },
  {
    name: "presence-churn",
    does: "subscribes and unsubscribes of a channel whose 190 members are told of each",
    needs: "client token",
    connectionsEach: crowdEach,
    run: async (target, load) =>
      beforeCrowd(target, load, async ({ socket }) => {
        const requests = ["sync:unsubscribe", "sync:subscribe"].map((name) =>
          requestFrame(name, { channel: presentChannel }),
        );
        const bytes = Buffer.concat(requests);
        while (!load.over && !socket.destroyed) {
          await write(socket, bytes);
          load.sent(requests.length, bytes.length);
          await pause((requests.length * 1_000) / requestsPerSecond);
        }
      }),
  },
  {
    name: "subscribe-hooks",
    does: "600 subscribes at once, and 200 more a second, each of which asks a service",
    needs: "client token",
    run: async (target, load) => {
      let number = 0;
      await keepBusy(load, async () => {
        const client = await openSession(target, load);
        while (!load.over && !client.socket.destroyed) {
          const channel = `${grantedNamespace}:hook-${number++}`;
          const bytes = Buffer.concat([
            requestFrame("sync:subscribe", { channel }),
            requestFrame("sync:unsubscribe", { channel }),
          ]);
          await write(client.socket, bytes);
          load.sent(2, bytes.length);
          if (number > requestsAtOnce / 2) await pause(2_000 / requestsPerSecond);
        }
      });
    },
  },
  ...atEventRate.map(({ name, does, data }): Attack => ({
    name,
    does,
    needs: "client token",
    run: async (target, load) => {
      const frame = textFrame(`421["attack.echo",${data()}]`);
      await keepBusy(load, async () => {
        const { socket } = await openSession(target, load);
        for (let sent = 0; sent < eventsAtOnce && !socket.destroyed; sent++) await write(socket, frame);
        load.sent(eventsAtOnce, eventsAtOnce * frame.length);
        while (!load.over && !socket.destroyed) {
          await pause(1_000 / eventsPerSecond);
          await write(socket, frame);
          load.sent(1, frame.length);
        }
      });
    },
  })),
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
