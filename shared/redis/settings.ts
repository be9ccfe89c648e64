import { Type } from "typebox";
import { list, optional, text, url } from "../settings.ts";

const HostAndPort = Type.String({ pattern: "^[^:\\s]+:\\d{1,5}$" });

/** Where Redis is. All absent: the in-memory implementations, one process. */
export const redisSettings = {
  REDIS_URL: optional(url({ protocols: ["redis:", "rediss:"] })),
  REDIS_SENTINELS: optional(list(HostAndPort)),
  REDIS_SENTINEL_MASTER: optional(text()),
  REDIS_CLUSTER: optional(list(HostAndPort)),
};

export function redisFindings(settings: {
  REDIS_URL: string | undefined;
  REDIS_SENTINELS: readonly string[] | undefined;
  REDIS_SENTINEL_MASTER: string | undefined;
  REDIS_CLUSTER: readonly string[] | undefined;
}): string[] {
  const findings: string[] = [];
  if ((settings.REDIS_SENTINELS === undefined) !== (settings.REDIS_SENTINEL_MASTER === undefined)) {
    findings.push("REDIS_SENTINELS, REDIS_SENTINEL_MASTER: set both or neither");
  }
  const ways = [settings.REDIS_URL, settings.REDIS_SENTINELS, settings.REDIS_CLUSTER];
  if (ways.filter((way) => way !== undefined).length > 1) {
    findings.push("REDIS_URL, REDIS_SENTINELS, REDIS_CLUSTER: set only one of them");
  }
  return findings;
}
