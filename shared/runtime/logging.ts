import { type DestinationStream, type Logger, pino } from "pino";
import { excerpt } from "./excerpt.ts";
import { withoutSecrets } from "./masking.ts";

export type { Logger };

export const logLevels = ["fatal", "error", "warn", "info", "debug", "trace", "silent"] as const;
export type LogLevel = (typeof logLevels)[number];

/** Members that are masked in log lines, at the top and up to two levels down. */
const secretMembers = [
  "authorization",
  "token",
  "tokens",
  "resume",
  "resumeToken",
  "secret",
  "secrets",
  "password",
  "cookie",
  "claims",
];

/**
 * Writes JSON lines to standard output, with times in ISO 8601.
 * @param options.destination replaces standard output in tests.
 */
export function createLogger(options: { name: string; level: LogLevel; destination?: DestinationStream }): Logger {
  const settings = {
    name: options.name,
    level: options.level,
    timestamp: pino.stdTimeFunctions.isoTime,
    serializers: { err: describeError },
    redact: { paths: secretMembers.flatMap((member) => [member, `*.${member}`, `*.*.${member}`]), censor: "***" },
  };
  return options.destination ? pino(settings, options.destination) : pino(settings);
}

/** In characters. Messages of libraries may quote a peer, and stacks begin with the message. */
const maxMessageLength = 2_000;
const maxTraceLength = 4_000;

/** Keeps only standard members: libraries add commands and requests, which contain secrets. */
function describeError(error: unknown): unknown {
  if (!(error instanceof Error)) return { message: describeMessage(String(error)) };
  const { name, stack, cause } = error;
  const message = describeMessage(error.message);
  const code: unknown = (error as Error & { code?: unknown }).code;
  return {
    type: name,
    message,
    ...(typeof code === "string" && { code }),
    ...(cause instanceof Error && { cause: describeMessage(cause.message) }),
    stack: stack?.replace(error.message, () => message).slice(0, message.length + maxTraceLength),
  };
}

function describeMessage(message: string): string {
  return withoutSecrets(excerpt(message, maxMessageLength));
}
