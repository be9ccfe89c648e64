import { readFileSync } from "node:fs";

/** The limit of open files and sockets of this process; Infinity where the system does not report one. */
export function openFilesLimit(): number {
  try {
    const [, soft = ""] = /^Max open files +(\d+|unlimited)/m.exec(readFileSync("/proc/self/limits", "utf8")) ?? [];
    return /^\d+$/.test(soft) ? Number(soft) : Infinity;
  } catch {
    return Infinity;
  }
}

/** The part of the limit that peers cannot use: it keeps Redis, services, files and health checks working. */
export function reservedFiles(limit: number, enough: number): number {
  return Math.min(enough, Math.floor(limit / 4));
}
