/** What a publish that expected another position is refused with, and a service hands on. No I/O. */
import type { Position, WirePublication } from "../../../shared/protocol/wire.ts";

/** The channel has moved on since the position that was acted on. */
export interface Conflict {
  /** Where the channel stands: what the next try acts on. */
  position: Position;
  /**
   * What was published since the position acted on, in order, as far as it is kept. They are all there where the first
   * follows that position (`prev ?? offset - 1`) and the last has the offset of `position`; otherwise take a snapshot.
   */
  publications: WirePublication[];
}

/** `undefined` where the members are not those of a conflict: a service may use the code for something else. */
export function readConflict(details: Readonly<Record<string, unknown>> | undefined): Conflict | undefined {
  const { position, publications } = details ?? {};
  if (!isPosition(position) || !Array.isArray(publications) || !publications.every(isPublication)) return undefined;
  return { position, publications };
}

function isPosition(value: unknown): value is Position {
  return isObject(value) && typeof value["epoch"] === "string" && isOffset(value["offset"]);
}

function isPublication(value: unknown): value is WirePublication {
  if (!isObject(value) || !isOffset(value["offset"]) || typeof value["event"] !== "string") return false;
  return "data" in value && (value["prev"] === undefined || isOffset(value["prev"]));
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null;
}

function isOffset(value: unknown): boolean {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}
