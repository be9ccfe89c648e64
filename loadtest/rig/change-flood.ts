/** Publishes changes in batches at a steady rate, however many endpoints match them. */
import { setTimeout as pause } from "node:timers/promises";
import { type HookBody, nowMs } from "../providers/load-messages.ts";
import type { OwnDeployment } from "./fleet.ts";
import { callPrivateApi } from "./private-api.ts";

const batchesPerSecond = 10;

export interface FloodOptions {
  readonly group: string;
  /** Begins the channels, which get changes in turn. */
  readonly prefix: string;
  readonly channels: number;
  readonly perSecond: number;
  readonly changes: number;
}

/** Resolves once all are stored. */
export async function flood(deployment: OwnDeployment, options: FloodOptions): Promise<void> {
  const { group, prefix, channels, perSecond, changes } = options;
  const size = Math.max(1, Math.round(perSecond / batchesPerSecond));
  const begun = performance.now();
  for (let at = 0; at < changes; at += size) {
    while (((performance.now() - begun) / 1_000) * perSecond < at) await pause(1);
    const batch = Array.from({ length: Math.min(size, changes - at) }, (_, offset) => {
      const index = at + offset;
      const key = `${prefix}${index % channels}`;
      const data: HookBody = { group, key, tenant: "", n: 1 + Math.floor(index / channels), at: nowMs() };
      return { channel: key, event: "moved", data };
    });
    await callPrivateApi(deployment, "POST", "/v1/publish/batch", batch);
  }
}
