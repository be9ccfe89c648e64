/** The flags that say where captured bodies, and the data of both systems, have what is compared. */
import { matching, optional } from "../../shared/runtime/setting-kinds.ts";
import type { Pointers } from "./reference-lines.ts";

const pointer = optional(matching(/^(\/([^~/]|~[01])*)+$/, "must be a JSON pointer, such as /id"));

export const pointerFlags = {
  "--id-at": pointer,
  "--channel-at": pointer,
  "--event-at": pointer,
  "--data-at": pointer,
};

export function pointersOf(given: Readonly<Record<keyof typeof pointerFlags, string | undefined>>): Pointers {
  return { id: given["--id-at"], channel: given["--channel-at"], event: given["--event-at"], data: given["--data-at"] };
}
