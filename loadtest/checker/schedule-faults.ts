/** The faults of schedules. Each heals itself. */
import { setTimeout as pause } from "node:timers/promises";
import type { TcpProxy } from "../../test/support/tcp-proxy.ts";
import type { Program } from "./schedule-program.ts";
import type { SeededRandom } from "../../test/support/seeded-random.ts";

export interface Fault {
  readonly kind: string;
  /** The fault affects one of them; a target has one fault at a time. */
  readonly targets: readonly object[];
  /** Affected too, whichever target is drawn: none of them may have another fault. */
  readonly alsoAffected?: readonly object[];
  /** It may lose acknowledged publications. */
  readonly losesWrites?: boolean;
  run(target: object, random: SeededRandom, signal: AbortSignal): Promise<void>;
}

/** Longer than any time after which a frozen node counts as dead. */
const longFreezeMs = 13_000;

/** Resolves when the fault has lasted so long, or the schedule ends. */
export async function lasts(ms: number, signal: AbortSignal): Promise<void> {
  await pause(ms, undefined, { signal }).catch(() => undefined);
}

function linkFault(
  kind: string,
  links: readonly TcpProxy[],
  lastsMs: readonly [number, number],
  begin: (link: TcpProxy) => void,
): Fault {
  return {
    kind,
    targets: links,
    run: async (target, random, signal) => {
      const link = target as TcpProxy;
      begin(link);
      await lasts(random.between(...lastsMs), signal);
      link.heal();
    },
  };
}

export function clientLinkFaults(links: readonly TcpProxy[]): Fault[] {
  const name = "client–gateway";
  return [
    linkFault(`${name} cut`, links, [0, 500], (link) => link.cut()),
    linkFault(`${name} stalled`, links, [200, 3_000], (link) => link.set("stalled")),
    linkFault(`${name} half open`, links, [500, 3_000], (link) => link.cut({ halfOpen: true })),
    linkFault(`${name} swallows`, links, [200, 2_000], (link) => link.set("deaf")),
    linkFault(`${name} slow`, links, [500, 2_000], (link) => link.set("slow")),
  ];
}

export function redisLinkFaults(name: string, links: readonly TcpProxy[]): Fault[] {
  return [
    linkFault(`${name} cut`, links, [0, 500], (link) => link.cut()),
    linkFault(`${name} refused`, links, [200, 2_500], (link) => link.set("closed")),
    linkFault(`${name} stalled`, links, [200, 7_000], (link) => link.set("stalled")),
    linkFault(`${name} half open`, links, [500, 2_500], (link) => link.cut({ halfOpen: true })),
    linkFault(`${name} swallows`, links, [500, 5_000], (link) => link.set("deaf")),
  ];
}

export function gatewayFaults(gateways: readonly Program[]): { short: Fault[]; long: Fault } {
  const freeze = (kind: string, lastsMs: readonly [number, number]): Fault => ({
    kind,
    targets: gateways,
    run: async (target, random, signal) => {
      const gateway = target as Program;
      gateway.signal("SIGSTOP");
      await lasts(random.between(...lastsMs), signal);
      gateway.signal("SIGCONT");
    },
  });
  const killed: Fault = {
    kind: "gateway killed",
    targets: gateways,
    run: async (target, random, signal) => {
      const gateway = target as Program;
      await gateway.kill();
      await lasts(random.between(0, 1_000), signal);
      gateway.restart();
    },
  };
  return {
    short: [killed, freeze("gateway frozen", [200, 3_000])],
    long: freeze("gateway frozen for long", [longFreezeMs, longFreezeMs]),
  };
}
