/** Explains why a program did not start, where the operator has to change something. */
import { InvalidDocument } from "./invalid-document.ts";

/** An error of a system call; the system fills in the members that apply. */
type SystemError = Error & {
  code?: string;
  syscall?: string;
  port?: number;
  address?: string;
  hostname?: string;
  path?: string;
};
type Settings = Readonly<Record<string, unknown>>;

/**
 * @returns one line that says what is wrong and which setting to change; undefined for an unknown cause.
 * @param settings by variable name. The setting of a port, host or file is found by its value.
 */
export function explainStartFailure(error: unknown, settings: Settings): string | undefined {
  for (let cause = error; cause instanceof Error; cause = cause.cause) {
    if (cause instanceof InvalidDocument) return `RULES_FILE: ${cause.message}`;
    const explained = explainSystemError(cause, settings);
    if (explained !== undefined) return explained;
  }
  return undefined;
}

function explainSystemError(error: SystemError, settings: Settings): string | undefined {
  const { code, syscall, port, address, hostname, path } = error;
  const host = namesOf("_HOST", address ?? hostname, settings);
  if (syscall === "listen" && port !== undefined) {
    const name = namesOf("_PORT", port, settings);
    if (code === "EADDRINUSE") {
      return `port ${port} is in use: stop the program that listens on it, or set ${name || "another port"}`;
    }
    if (code === "EACCES") {
      return `port ${port} is reserved: set ${name || "it"} to 1024 or more, or run with the right to bind it`;
    }
  }
  if (host !== "" && (code === "EADDRNOTAVAIL" || syscall === "getaddrinfo")) {
    return `this machine has no address ${address ?? hostname}: change ${host}`;
  }
  const { RULES_FILE: rulesFile, JOURNAL_DIR: journal } = settings;
  if (rulesFile !== undefined && path === rulesFile) {
    return `RULES_FILE: the file cannot be read: ${error.message}`;
  }
  if (typeof journal === "string" && path?.startsWith(journal)) {
    return `JOURNAL_DIR: the folder cannot be used: ${error.message}`;
  }
  return undefined;
}

/** Names of the settings with this ending and value. */
function namesOf(ending: string, value: unknown, settings: Settings): string {
  return Object.keys(settings)
    .filter((name) => name.endsWith(ending) && value !== undefined && settings[name] === value)
    .join(" or ");
}
