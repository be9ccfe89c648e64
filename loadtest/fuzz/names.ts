/** Names in fuzzed inputs: few, so that inputs share channels and users, and never those of the honest client. */
import type { Dice } from "./dice.ts";
import type { Part } from "./parts.ts";

export const honestUser = "honest";
export const honestChannel = "honest:1";
/** A channel whose history fills one answer. */
export const fullChannel = "fuzz:full";
/** The subscribe hook of the hostile service grants these channels to every client. */
export const grantedNamespace = "granted";

/** Clients of the fuzzer; more of them would be more sessions per user to look at. */
const users = 40;

export function fuzzUser(dice: Dice): string {
  return `fuzz-${dice.between(0, users - 1)}`;
}

/** Channel names without characters that JSON or a path escapes. */
export function channelText(dice: Dice, largest: number): Part[] {
  return dice.weighted<Part[]>([
    // Requests for a channel need its subscription: most inputs share one channel.
    [6, () => ["fuzz:1"]],
    [4, () => [`fuzz:${dice.between(0, 30)}`]],
    [2, () => [`open:${dice.between(0, 3)}`]],
    [1, () => [`other:${dice.between(0, 10)}`]],
    [
      1,
      () => [
        dice.pick([
          "",
          ":",
          "fuzz:",
          ":a",
          "Fuzz:1",
          "fuzz:__proto__",
          "fuzz:a/../b",
          "fuzz: ",
          "fuzz:é",
          "__proto__:a",
        ]),
      ],
    ],
    [
      0.2,
      () => ["fuzz:", { repeat: dice.pick(["a", "/", ".", ":", "@", "é", " "]), times: dice.magnitude(1, largest) }],
    ],
  ]);
}
