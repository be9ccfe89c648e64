/** All attacks. */
import type { Attack } from "./attack.ts";
import { apiBodyAttacks } from "./api-bodies.ts";
import { controls } from "./control.ts";
import { doorAttacks } from "./doors.ts";
import { frameAttacks } from "./frames.ts";
import { handshakeAttacks } from "./handshakes.ts";
import { pollingAttacks } from "./polling.ts";
import { readerAttacks } from "./readers.ts";
import { requestAttacks } from "./requests.ts";
import { serviceAttacks } from "./services.ts";
import { upgradeAttacks } from "./upgrades.ts";

/** By family. Attacks that need another deployment come last. */
export const attackFamilies = {
  control: controls,
  upgrades: upgradeAttacks,
  doors: doorAttacks,
  bodies: apiBodyAttacks,
  handshakes: handshakeAttacks,
  frames: frameAttacks,
  requests: requestAttacks,
  readers: readerAttacks,
  services: serviceAttacks,
  polling: pollingAttacks,
} as const satisfies Record<string, readonly Attack[]>;

export const attacks: readonly Attack[] = Object.values(attackFamilies).flat();

export function attackNamed(name: string): Attack | undefined {
  return attacks.find((attack) => attack.name === name);
}

/** @param names of attacks or families. Throws where one is neither. */
export function chosenAttacks(names: readonly string[]): readonly Attack[] {
  if (names.length === 0) return attacks;
  const chosen = new Set(names.flatMap((name) => attacksNamed(name)));
  return attacks.filter((attack) => chosen.has(attack));
}

function attacksNamed(name: string): readonly Attack[] {
  if (Object.hasOwn(attackFamilies, name)) return attackFamilies[name as keyof typeof attackFamilies];
  const attack = attackNamed(name);
  if (!attack) throw new Error(`no such attack or family: ${name}; --list shows all`);
  return [attack];
}
