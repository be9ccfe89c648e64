/** Floods of frames that are no events, and malformed frames. */
import { clientFrame, frameHead, pingFrame, textFrame } from "../../test/support/raw-websocket.ts";
import type { Socket } from "node:net";
import type { Attack, Load, Target } from "./attack.ts";
import { keepBusy, openSession, openWebsocket, pour, repeated, untilGone, write } from "./peers.ts";

interface Flood {
  readonly name: string;
  readonly does: string;
  /** Sent before the flood. */
  readonly opening?: Buffer;
  readonly frame: Buffer;
}

const nothing = Buffer.alloc(0);
/** Of one byte each: the message never ends. */
const fragment = clientFrame("continuation", Buffer.from("0"), false);

const floods: readonly Flood[] = [
  { name: "engine-pongs", does: "pongs without a ping", frame: textFrame("3") },
  { name: "engine-noops", does: "Engine.IO packets without a meaning", frame: textFrame("6") },
  { name: "websocket-pings", does: "pings of the websocket itself", frame: pingFrame("") },
  { name: "websocket-pongs", does: "pongs of the websocket itself", frame: clientFrame("pong", nothing) },
  { name: "acks", does: "acks without an event", frame: textFrame("431[]") },
  {
    name: "empty-fragments",
    does: "a message of empty fragments that never ends",
    opening: clientFrame("text", nothing, false),
    frame: clientFrame("continuation", nothing, false),
  },
  {
    name: "tiny-fragments",
    does: "a message in fragments of one byte that never ends",
    opening: clientFrame("text", Buffer.from("4"), false),
    frame: fragment,
  },
  { name: "tiny-messages", does: "messages of one character", frame: textFrame("4") },
];

async function flood(target: Target, load: Load, { opening, frame }: Flood, authenticated: boolean): Promise<void> {
  const { bytes, frames } = repeated(frame);
  await keepBusy(load, async () => {
    const socket = authenticated ? (await openSession(target, load)).socket : await openWebsocket(target, load);
    if (opening) socket.write(opening);
    await pour(socket, bytes, frames, load);
  });
}

const floodAttacks = floods.flatMap((kind): Attack[] => [
  {
    name: kind.name,
    does: `${kind.does}, before authentication`,
    needs: "nothing",
    run: async (target, load) => flood(target, load, kind, false),
  },
  {
    name: `${kind.name}-session`,
    does: `${kind.does}, within a session`,
    needs: "client token",
    run: async (target, load) => flood(target, load, kind, true),
  },
]);

const announcedBytes = 2 ** 40;
/** The largest message that a gateway accepts (BAD-3). */
const largestBytes = 397_312;
const openMs = 5_000;

async function unfinished(socket: Socket, load: Load): Promise<void> {
  const started = Buffer.concat([frameHead("text", largestBytes), Buffer.alloc(4 + largestBytes - 1)]);
  await write(socket, started);
  load.sent(1, started.length);
  await untilGone(socket, load, openMs);
}

const malformed: readonly Buffer[] = [
  // A reserved bit, an unknown opcode, no mask, a fragmented ping, a close frame of one byte, text that is not UTF-8.
  Buffer.from([0xc1, 0x80, 0, 0, 0, 0]),
  Buffer.from([0x83, 0x80, 0, 0, 0, 0]),
  Buffer.from([0x81, 0x01, 0x32]),
  Buffer.from([0x09, 0x80, 0, 0, 0, 0]),
  clientFrame("close", Buffer.from([3])),
  clientFrame("text", Buffer.from([0x34, 0xff, 0xfe])),
  frameHead("text", announcedBytes),
  textFrame("4999999999999999999-[]"),
  textFrame(`4/${"a".repeat(60_000)}`),
  textFrame(`42${"9".repeat(60_000)}[]`),
  textFrame('42["connect"]'),
  textFrame("40[[["),
];

export const frameAttacks: readonly Attack[] = [
  ...floodAttacks,
  {
    name: "malformed-frames",
    does: "frames that break the protocol, one on each connection",
    needs: "nothing",
    run: async (target, load) => {
      let next = 0;
      await keepBusy(load, async () => {
        const socket = await openWebsocket(target, load);
        const frame = malformed[next++ % malformed.length] ?? nothing;
        load.sent(1, frame.length);
        await write(socket, frame);
        socket.end();
        await untilGone(socket, load, openMs);
      });
    },
  },
  {
    name: "hasty-floods",
    does: "pongs without a ping, on connections that the attacker ends before the gateway does",
    needs: "nothing",
    run: async (target, load) => {
      const { bytes, frames } = repeated(textFrame("3"));
      await keepBusy(load, async () => {
        const socket = await openWebsocket(target, load);
        await write(socket, bytes);
        load.sent(frames, bytes.length);
        socket.destroy();
      });
    },
  },
  {
    name: "oversized-frames",
    does: "messages of 4 MiB, ten times the limit",
    needs: "nothing",
    run: async (target, load) => {
      const bytes = clientFrame("text", Buffer.alloc(4 * 1024 * 1024, "4"));
      await keepBusy(load, async () => pour(await openWebsocket(target, load), bytes, 1, load));
    },
  },
  {
    name: "unfinished-frames",
    does: "frames of 388 KiB that lack their last byte, 100 at a time for each connection",
    needs: "nothing",
    connectionsEach: 100,
    run: async (target, load) => keepBusy(load, async () => unfinished(await openWebsocket(target, load), load)),
  },
  {
    name: "binary-attachments",
    does: "announces ten binary attachments and sends nine of 388 KiB, 25 times for each connection",
    needs: "nothing",
    connectionsEach: 25,
    run: async (target, load) => keepBusy(load, async () => attach(await openWebsocket(target, load), load)),
  },
  {
    name: "binary-attachments-session",
    does: "the same within a session",
    needs: "client token",
    connectionsEach: 25,
    run: async (target, load) => keepBusy(load, async () => attach((await openSession(target, load)).socket, load)),
  },
];

const attachments = 10;
const announcement = textFrame(
  `45${attachments}-${JSON.stringify(["attack.echo", ...Array.from({ length: attachments }, (_, num) => ({ _placeholder: true, num }))])}`,
);
const attachment = clientFrame("binary", Buffer.alloc(largestBytes - 16));

async function attach(socket: Socket, load: Load): Promise<void> {
  await write(socket, announcement);
  for (let sent = 0; sent < attachments - 1; sent++) {
    await write(socket, attachment);
    load.sent(1, attachment.length);
  }
  await untilGone(socket, load);
}
