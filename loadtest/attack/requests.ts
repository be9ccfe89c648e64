/** Events and requests of clients that have a session. */
import { setTimeout as pause } from "node:timers/promises";
import { textFrame } from "../../test/support/raw-websocket.ts";
import type { RawClient } from "../../test/support/raw-client.ts";
import { type Attack, attackedNamespace, type Load, type Target } from "./attack.ts";
import { keepBusy, openSession, openWebsocket, pour, repeated, subscribe, untilGone, write } from "./peers.ts";

/** A namespace that no token grants: the subscribe hook decides, and a refresh renews its grants. */
const grantedNamespace = "granted";
const grantedChannels = 200;
/** The burst and the rate of the gateway's own requests (LIM-2). */
const requestsAtOnce = 600;
const requestsPerSecond = 200;
const storedChannel = `${attackedNamespace}:stored`;
const storedPublications = 1_000;
const storedBytesEach = 500;
const answerWithinMs = 1_000;

/** Fills the history of a channel up to the limit of one answer. */
async function fillHistory({ api, apiToken }: Target): Promise<void> {
  const item = { channel: storedChannel, event: "filler", data: "x".repeat(storedBytesEach) };
  const answer = await fetch(new URL("/v1/publish/batch", api), {
    method: "POST",
    headers: { authorization: `Bearer ${apiToken}`, "content-type": "application/json" },
    body: JSON.stringify(Array.from({ length: storedPublications }, () => item)),
  });
  if (!answer.ok) throw new Error(`filling the history failed: ${answer.status}`);
}

/** Repeats one frame as fast as LIM-2 allows. @param reads false: answers stay unread in the kernel */
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

/** Sends the frame once on each connection, then waits for an answer. */
async function sendOnce(target: Target, load: Load, frame: Buffer, authenticated: boolean): Promise<void> {
  await keepBusy(load, async () => {
    const socket = authenticated ? (await openSession(target, load)).socket : await openWebsocket(target, load);
    load.sent(1, frame.length);
    await write(socket, frame);
    socket.once("data", () => socket.destroy());
    await untilGone(socket, load, answerWithinMs);
  });
}

/** Members of one channel, for each one of --connections; PRES-3 lists 200. */
const crowdEach = 48;
const presentChannel = `present:${attackedNamespace}`;

/** One of `crowdEach` connections attacks; the others follow the channel. */
async function beforeCrowd(target: Target, load: Load, attack: (client: RawClient) => Promise<void>): Promise<void> {
  const info = "x".repeat(1_000);
  await keepBusy(load, async (worker) => {
    const client = await openSession(target, load, { claims: { sub: `member-${worker}`, info } });
    await subscribe(client, presentChannel);
    if (worker % crowdEach === 0) await attack(client);
    else await untilGone(client.socket, load);
  });
}

/** The burst and the rate of events (LIM-1). */
const eventsAtOnce = 100;
const eventsPerSecond = 50;

const atEventRate: readonly { name: string; does: string; data: () => string }[] = [
  {
    name: "large-events",
    does: "events of 64 KiB at the allowed rate",
    data: () => JSON.stringify("x".repeat(65_000)),
  },
  {
    name: "escaped-events",
    does: "events of 64 KiB that take 380 KiB on the wire, at the allowed rate",
    data: () => `"${String.raw`\u0061`.repeat(65_000)}"`,
  },
  {
    name: "wide-events",
    does: "events of 21,000 empty lists, at the allowed rate",
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
    does: "the same before authentication",
    needs: "nothing",
    run: async (target, load) => sendOnce(target, load, manyArguments, false),
  },
  {
    name: "deep-events",
    does: "events of 190,000 nested brackets",
    needs: "client token",
    run: async (target, load) => sendOnce(target, load, textFrame(`421["attack.echo",${brackets}]`), true),
  },
  {
    name: "event-flood",
    does: "events without an ack, as fast as the socket accepts them",
    needs: "client token",
    run: async (target, load) => {
      const { bytes, frames } = repeated(textFrame('42["no.such.route",0]'));
      await keepBusy(load, async () => pour((await openSession(target, load)).socket, bytes, frames, load));
    },
  },
  {
    name: "history-unread",
    does: "600 reads of 512 KiB of history at once, then 200 per second, without reading the answers",
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
    does: "the same, reading the answers",
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
    does: "600 subscribes from an old position at once, then 200 per second, without reading the answers",
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
    does: "200 refreshes per second of a session with 200 grants",
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
    does: "600 reads of the presence of 190 members at once, then 200 per second",
    needs: "client token",
    connectionsEach: crowdEach,
    run: async (target, load) =>
      beforeCrowd(target, load, async (client) => {
        await repeatRequest(client, requestFrame("sync:presence", { channel: presentChannel }), load, true);
      }),
  },
  {
    name: "presence-churn",
    does: "subscribes and unsubscribes of a channel with 190 members, which are notified of each",
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
    does: "600 subscribes at once, then 200 per second, each of which calls a service",
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
    does: "subscribes and unsubscribes of new channels, 200 per second",
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
