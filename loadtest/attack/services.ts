/** Services that hang or give unusable answers to clients with a token. */
import { setTimeout as pause } from "node:timers/promises";
import { textFrame } from "../../test/support/raw-websocket.ts";
import type { Attack, Load, Target } from "./attack.ts";
import { keepBusy, openSession, write } from "./peers.ts";
import type { Behaviour } from "./service.ts";

/** The burst and the rate of events (LIM-1). */
const eventsAtOnce = 100;
const eventsPerSecond = 50;

async function call(target: Target, load: Load, behaviour: Behaviour, data: unknown, perSecond: number): Promise<void> {
  const frame = textFrame(`421${JSON.stringify([`attack.${behaviour}`, data])}`);
  await keepBusy(load, async () => {
    const { socket } = await openSession(target, load);
    const atOnce = Math.max(1, Math.round((eventsAtOnce * perSecond) / eventsPerSecond));
    for (let sent = 0; sent < atOnce && !socket.destroyed; sent++) {
      await write(socket, frame);
      load.sent(1, frame.length);
    }
    while (!load.over && !socket.destroyed) {
      await pause(1_000 / perSecond);
      await write(socket, frame);
      load.sent(1, frame.length);
    }
  });
}

const answers: readonly { behaviour: Behaviour; does: string; perSecond: number }[] = [
  { behaviour: "growing", does: "1 MB of numbers that are longer when written again", perSecond: 2 },
  { behaviour: "large", does: "1 MiB of text", perSecond: 2 },
  { behaviour: "deep", does: "1 MiB of nested brackets", perSecond: 2 },
  { behaviour: "rejection", does: "a rejection with 1 MB of details", perSecond: 2 },
  { behaviour: "endless", does: "endless bytes", perSecond: 2 },
  { behaviour: "reset", does: "a reset in the middle of an answer", perSecond: eventsPerSecond },
  { behaviour: "trickle", does: "a byte now and then", perSecond: eventsPerSecond },
];

export const serviceAttacks: readonly Attack[] = [
  ...answers.map(({ behaviour, does, perSecond }): Attack => ({
    name: `service-${behaviour}`,
    does: `a service answers each call with ${does}`,
    needs: "service",
    run: async (target, load) => call(target, load, behaviour, {}, perSecond),
  })),
  {
    name: "service-hangs",
    does: "12 clients send events of 64 KiB to a service that never answers",
    needs: "service",
    connectionsEach: 3,
    run: async (target, load) => call(target, load, "hang", "x".repeat(65_000), eventsPerSecond),
  },
];
