/** Watches one process: whether it ends, what failures it logs, and what resources it uses. */
import { readFileSync } from "node:fs";
import type { Server } from "../rig/server.ts";
import { processUsage } from "../checks/usage.ts";
import { descriptorsOf, openFiles } from "./open-files.ts";

export interface Finding {
  readonly kind: "died" | "logged";
  /** The role of the process. */
  readonly process: string;
  /** The boundary that contained an exception; it logs once a minute and counts each one. */
  readonly boundary?: string;
  /** The same for the same cause, independent of the input. */
  readonly signature: string;
  readonly text: string;
}

/** Expected lines at level error, with the reason. */
const explained: readonly { readonly pattern: RegExp; readonly reason: string }[] = [
  {
    pattern: /^contained error: Error: (a question|an answer of the private API) cannot be read: /,
    reason: "a peer with the relay token breaks the protocol of the relay: an operator must see it",
  },
  {
    pattern: /^a gateway of another relay version is refused/,
    reason: "an operator has to bring both programs to one version",
  },
];

/** Lines that Node prints about its inspector and about warnings. */
const nodeLine = /^(Debugger |For help, see|Starting inspector|Waiting for the debugger|\(Use `node --trace-)/;
const errorLevel = 50;
const warnLevel = 40;

interface LogLine {
  readonly level?: number;
  readonly msg?: string;
  readonly boundary?: string;
  readonly err?: { readonly type?: string; readonly message?: string; readonly stack?: string };
}

/** The message of a process that a bug ends; it then stops in order, which may take a while. */
const bugMessage = "uncaught error, exiting";

export class ProcessWatch {
  readonly server: Server;
  #read = 0;
  /** Characters searched for the bug message. */
  #searched = 0;
  #loggedBug = false;
  /** Warnings by message; they count as no failure. */
  readonly warnings = new Map<string, number>();

  constructor(server: Server) {
    this.server = server;
  }

  /** The process has ended or is about to. */
  get isGone(): boolean {
    const output = this.server.output();
    if (output.length > this.#searched) {
      this.#loggedBug ||= output.includes(bugMessage, Math.max(0, this.#searched - bugMessage.length));
      this.#searched = output.length;
    }
    return this.#loggedBug || this.server.died;
  }

  /** Unexpected lines since the last call. */
  findings(): Finding[] {
    const output = this.server.output();
    const end = output.lastIndexOf("\n") + 1;
    const lines = output.slice(this.#read, end).split("\n");
    this.#read = Math.max(this.#read, end);
    return lines.flatMap((line) => this.#judge(line) ?? []);
  }

  /** Why the process ended. */
  death(): Finding {
    const lines = this.server.output().trimEnd().split("\n").slice(-40);
    const fatal = lines.map(parseLine).findLast(({ msg, err }) => msg === bugMessage && err);
    const said = lines.find((line) => line.includes("FATAL ERROR")) ?? lines.at(-1) ?? "";
    return this.#finding(
      "died",
      fatal ? signatureOf(fatal) : normal(said),
      fatal ? JSON.stringify(fatal.err) : lines.join("\n"),
    );
  }

  /** The process restarts: its output starts again. */
  reset(): void {
    [this.#read, this.#searched, this.#loggedBug] = [0, 0, false];
  }

  /** ms that the runnable main thread waited for a core. */
  get waitedMs(): number {
    const { pid } = this.server;
    try {
      return Number(readFileSync(`/proc/${pid}/task/${pid}/schedstat`, "latin1").split(" ")[1]) / 1e6;
    } catch {
      return 0;
    }
  }

  get descriptors(): number {
    return descriptorsOf(this.server.pid ?? 0).length;
  }

  /** Open files by kind, the most frequent first. */
  get openFiles(): string {
    const kinds = [...openFiles(this.server.pid ?? 0)].sort(([, one], [, other]) => other - one);
    return kinds.map(([kind, count]) => `${count} × ${kind}`).join("; ");
  }

  get rssBytes(): number {
    return processUsage(this.server.pid ?? 0)?.rssBytes ?? 0;
  }

  #judge(text: string): Finding | undefined {
    if (text === "" || nodeLine.test(text)) return undefined;
    const line = parseLine(text);
    const { level, msg = "" } = line;
    if (level === undefined) return this.#finding("logged", normal(text), text);
    if (level === warnLevel) this.warnings.set(msg, (this.warnings.get(msg) ?? 0) + 1);
    // Reported by death().
    if (msg === bugMessage) return undefined;
    if (
      level < errorLevel ||
      explained.some(({ pattern }) => pattern.test(`${msg}: ${line.err?.type}: ${line.err?.message}`))
    )
      return undefined;
    const { boundary } = line;
    return { ...this.#finding("logged", signatureOf(line), text), ...(boundary !== undefined && { boundary }) };
  }

  #finding(kind: Finding["kind"], signature: string, text: string): Finding {
    const process = this.server.role;
    return { kind, process, signature: `${process} ${kind}: ${signature}`, text: text.slice(0, 4_000) };
  }
}

function parseLine(text: string): LogLine {
  try {
    return JSON.parse(text) as LogLine;
  } catch {
    return {};
  }
}

function signatureOf({ msg = "", err }: LogLine): string {
  if (!err) return normal(msg);
  const place = /((?:gateway|private-api|shared|node_modules)\/[^\s():]+):\d+/.exec(err.stack ?? "")?.[1] ?? "";
  return normal(`${msg}: ${err.type}: ${err.message} ${place}`);
}

/** Removes numbers and quoted text, which differ from input to input. */
function normal(text: string): string {
  return text
    .slice(0, 300)
    .replaceAll(/"[^"]*"|'[^']*'|`[^`]*`/g, '"…"')
    .replaceAll(/\d+/g, "0")
    .slice(0, 200);
}
