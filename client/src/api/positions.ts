/** Checks of positions from services and from the application. No I/O. */
import type { Position } from "../../../shared/protocol/wire.ts";

export function isPosition(value: unknown): value is Position {
  const { epoch, offset } = (value ?? {}) as Partial<Position>;
  return typeof epoch === "string" && isOffset(offset);
}

export function isOffset(value: unknown): boolean {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}
