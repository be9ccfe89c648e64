import { Type } from "typebox";
import { list, matching, optional, type SettingValues, text, url } from "../settings.ts";
import { defaultPrefix, prefixPattern } from "./name-root.ts";

const HostAndPort = Type.String({ pattern: "^[^:\\s]+:\\d{1,5}$" });

const redisUrl = { protocols: ["redis:", "rediss:"], allows: ["credentials", "path", "query"] } as const;

/** Where Redis is. All absent: the in-memory implementations, one process. */
export const redisSettings = {
  REDIS_URL: optional(url(redisUrl)),
  REDIS_READ_URL: optional(url(redisUrl)),
  REDIS_SENTINELS: optional(list(HostAndPort)),
  REDIS_SENTINEL_MASTER: optional(text()),
  REDIS_CLUSTER: optional(list(HostAndPort)),
  REDIS_PREFIX: matching(prefixPattern, "must be 1 to 64 of A-Z a-z 0-9 _ . : / -", { fallback: defaultPrefix }),
};

/** @param required a program of its own: without Redis there is nobody to share with. */
export function redisFindings(settings: SettingValues<typeof redisSettings>, required: boolean): string[] {
  const findings: string[] = [];
  if ((settings.REDIS_SENTINELS === undefined) !== (settings.REDIS_SENTINEL_MASTER === undefined)) {
    findings.push("REDIS_SENTINELS, REDIS_SENTINEL_MASTER: set both or neither");
  }
  const ways = [settings.REDIS_URL, settings.REDIS_SENTINELS, settings.REDIS_CLUSTER];
  if (ways.filter((way) => way !== undefined).length > 1) {
    findings.push("REDIS_URL, REDIS_SENTINELS, REDIS_CLUSTER: set only one of them");
  }
  if (settings.REDIS_READ_URL && settings.REDIS_CLUSTER) {
    findings.push("REDIS_READ_URL: is for REDIS_URL or REDIS_SENTINELS, not for REDIS_CLUSTER");
  }
  if (settings.REDIS_READ_URL && databaseIn(settings.REDIS_READ_URL) !== databaseIn(settings.REDIS_URL)) {
    findings.push("REDIS_READ_URL: must name the database that the deployment is on");
  }
  if (required && ways.every((way) => way === undefined)) {
    findings.push("REDIS_URL: is required for a program of its own (`npm start` runs everything without Redis)");
  }
  return findings;
}

/** As the URL's path tells it. */
function databaseIn(address: string | undefined): number {
  return Number(URL.parse(address ?? "")?.pathname.slice(1) ?? 0);
}
