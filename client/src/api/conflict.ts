/** The conflict of a publish with `expect`, as a service passes it on to a client. No I/O. */
import type { Position, WirePublication } from "../../../shared/protocol/wire.ts";
import { isOffset, isPosition } from "./positions.ts";

/** The channel has newer publications than the position that the action was based on. */
export interface Conflict {
  /** The channel's newest position: base the next try on it. */
  position: Position;
  /**
   * Publications since the position that the action was based on, in order, as far as history keeps them. The list is
   * complete if its first entry follows that position (`prev ?? offset - 1` equals its offset) and its last entry has the
   * offset of `position`; otherwise take a snapshot.
   */
  publications: WirePublication[];
}

/** `undefined` for other members: a service may use the code `conflict` for its own purposes. */
export function readConflict(details: Readonly<Record<string, unknown>> | undefined): Conflict | undefined {
  const { position, publications } = details ?? {};
  if (!isPosition(position) || !Array.isArray(publications) || !publications.every(isPublication)) return undefined;
  return { position, publications };
}

function isPublication(value: unknown): value is WirePublication {
  if (!isObject(value) || !isOffset(value["offset"]) || typeof value["event"] !== "string") return false;
  return "data" in value && (value["prev"] === undefined || isOffset(value["prev"]));
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null;
}
