import type { Drain } from "../../../shared/protocol/wire.ts";

/** A `sync:drain`, its times by the local `performance.now()`. */
export interface DrainNotice {
  readonly reconnectAtMs: number;
  readonly deadlineAtMs: number;
  readonly url: string | undefined;
}

/** `null` for malformed data. */
export function readDrain(data: unknown): DrainNotice | null {
  const { reconnectInMs, deadlineInMs, url } = (data ?? {}) as Partial<Drain>;
  if (typeof reconnectInMs !== "number" || typeof deadlineInMs !== "number") return null;
  const nowMs = performance.now();
  return {
    reconnectAtMs: nowMs + reconnectInMs,
    deadlineAtMs: nowMs + deadlineInMs,
    url: typeof url === "string" ? url : undefined,
  };
}
