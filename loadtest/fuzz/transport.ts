/** Draws how the bytes of a conversation are sent, and how it ends. */
import type { Dice } from "./dice.ts";
import type { Conversation } from "./input.ts";

/** Mostly in one piece and complete; else in segments, reset, or cut within so many bytes. */
export function transport(dice: Dice, bytes: number): Pick<Conversation, "segmentBytes" | "cutAtByte" | "ending"> {
  const torn = dice.chance(0.1) && { segmentBytes: dice.magnitude(1, 1_460) };
  const broken = dice.pick(["reset", "half-close"] as const);
  if (dice.chance(0.08)) return { ...torn, cutAtByte: dice.magnitude(1, bytes), ending: broken };
  return { ...torn, ending: dice.chance(0.9) ? "answered" : broken };
}
