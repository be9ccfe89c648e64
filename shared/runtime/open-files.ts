import { readFileSync } from "node:fs";

/** How many files and sockets this process may have open; Infinity where the system does not say. */
export function openFilesLimit(): number {
  try {
    const [, soft = ""] = /^Max open files +(\d+|unlimited)/m.exec(readFileSync("/proc/self/limits", "utf8")) ?? [];
    return /^\d+$/.test(soft) ? Number(soft) : Infinity;
  } catch {
    return Infinity;
  }
}

/** What a program keeps of the limit for itself, so that Redis, services, files and health checks work whatever its peers do. */
export function reservedFiles(limit: number, enough: number): number {
  return Math.min(enough, Math.floor(limit / 4));
}
