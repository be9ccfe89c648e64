/** The command around a check of a running deployment: settings that all checks share, the end, the report, the exit code. */
import { setTimeout as pause } from "node:timers/promises";
import { toggle } from "../../shared/runtime/command-line.ts";
import { integer, text, token, url, urls } from "../../shared/runtime/setting-kinds.ts";
import { say } from "../rig/scenario.ts";

export const checkSettings = {
  "--gateway": urls({ protocols: ["http:", "https:", "ws:", "wss:"] }),
  "--api": url({ protocols: ["http:", "https:"], allows: ["path"] }),
  "--api-token": token(),
  "--jwt-secret": text({ secret: true, minLength: 32 }),
  /** Connections dropped per minute, over all clients. */
  "--drops": integer({ min: 0, max: 6_000, fallback: 60 }),
  "--seconds": integer({ min: 1, max: 3_600, fallback: 30 }),
  "--json": toggle(),
  "--allow-loss": toggle(),
};

/** The environment variable of each flag. */
export const checkVariables = {
  "--gateway": "GATEWAY_URLS",
  "--api": "PRIVATE_API_URL",
  "--api-token": "PRIVATE_API_TOKEN",
  "--jwt-secret": "AUTH_JWT_SECRET",
  "--drops": "CHECKER_DROPS",
  "--seconds": "CHECKER_SECONDS",
};

/**
 * Runs a check and prints its report. Exit code 0: it passed; 1: it failed, or there is no verdict.
 * @param check ends its load once `ending` aborts: on SIGINT and SIGTERM, or by the check itself
 */
export async function runCheck<Report extends { readonly pass: boolean }>(
  check: (ending: AbortController) => Promise<Report>,
  output: { json: boolean; text: (report: Report) => string },
): Promise<void> {
  const ending = new AbortController();
  for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, () => ending.abort());
  try {
    const report = await check(ending);
    process.stdout.write(output.json ? `${JSON.stringify(report, undefined, 2)}\n` : `\n${output.text(report)}`);
    process.exitCode = report.pass ? 0 : 1;
  } catch (error) {
    say((error as Error).message);
    process.exitCode = 1;
  }
}

/** Drops a random client's connection at random moments. @param perMinute on average */
export async function dropConnections(
  clients: readonly { drop(): void }[],
  perMinute: number,
  signal: AbortSignal,
): Promise<void> {
  while (perMinute > 0 && !signal.aborted) {
    await restUntil(signal, (120_000 / perMinute) * Math.random());
    clients[Math.floor(Math.random() * clients.length)]?.drop();
  }
}

/** Resolves early where the signal aborts. */
export async function restUntil(signal: AbortSignal, ms: number): Promise<void> {
  await pause(ms, undefined, { signal }).catch(() => undefined);
}
