import { isUtf8 } from "node:buffer";
import { watch, type FSWatcher } from "node:fs";
import { readFile, stat } from "node:fs/promises";
import { dirname } from "node:path";
import type { ContainedErrors } from "../../shared/runtime/contained-errors.ts";
import { TidegateError } from "../../shared/runtime/errors.ts";
import type { Service } from "../../shared/runtime/lifecycle.ts";
import type { Logger } from "../../shared/runtime/logging.ts";
import { InvalidDocument } from "../../shared/runtime/invalid-document.ts";
import { parseDocumentText } from "../../shared/documents/parse.ts";
import type { DocumentStore } from "../../shared/documents/contract.ts";
import { checkRules } from "../../shared/rules/document.ts";
import type { CurrentRules } from "../../shared/rules/current-rules.ts";
import type { Environment } from "../../shared/runtime/settings.ts";

/** Quiet time before the file is read: an editor writes a file in several steps. */
const settleMs = 30;
/** Then it is read in any case: a log in its folder may be written all the time. */
const longestSettleMs = 1_000;
/** For file systems that report no changes, and for changes made while the store was away. */
const recheckMs = 5_000;

interface RulesFileOptions {
  path: string;
  store: DocumentStore;
  currentRules: CurrentRules;
  environment: Environment;
  errors: ContainedErrors;
  logger: Logger;
}

/** Puts the rules file into the store, at the start and after each change. With several processes the newest file wins. */
export class RulesFile implements Service {
  readonly #options: RulesFileOptions;
  #watcher: FSWatcher | undefined;
  #settle: NodeJS.Timeout | undefined;
  /** The first change that {@link #settle} waits for, by `performance.now()`. */
  #waitingSince = 0;
  #recheck: NodeJS.Timeout | undefined;
  #loading = Promise.resolve();
  #lastText: string | undefined;
  /** When the last text became the rules, by the clock of the store; of an older file, when it was written. */
  #lastChangedAt = 0;
  /** Of the last text. */
  #findings: readonly string[] = [];
  /** Since the last load that reached the store. */
  #isStoreAway = false;
  /** Why the file cannot be read now; it could before. */
  #unreadable: string | undefined;

  constructor(options: RulesFileOptions) {
    this.#options = options;
  }

  /** Why the present file is not valid; empty when it is. */
  get findings(): readonly string[] {
    return this.#unreadable === undefined ? this.#findings : [this.#unreadable];
  }

  /** @throws where the file cannot be read or is not valid: no earlier rules exist to fall back on. */
  async start(): Promise<void> {
    try {
      await this.#load();
    } catch (error) {
      if (!(error instanceof TidegateError)) throw error;
      this.#options.logger.warn({ err: error }, "storing the rules file failed, retrying");
    }
    if (this.#findings.length > 0) throw new InvalidDocument("rules", this.#findings);
    this.#watch();
    this.#recheck = this.#options.errors.every(recheckMs, () => this.#loadSoon());
  }

  async stop(): Promise<void> {
    this.#watcher?.close();
    clearTimeout(this.#settle);
    clearInterval(this.#recheck);
  }

  /** Watches the folder: after an atomic replacement or a changed link a watch on the file would see the old one. */
  #watch(): void {
    const failed = (error: unknown): void =>
      this.#options.logger.warn({ err: error }, "watching the rules file failed, polling it instead");
    try {
      this.#watcher = watch(dirname(this.#options.path), () => this.#loadSoon());
      this.#watcher.on("error", failed);
    } catch (error) {
      // The system has no watcher left.
      failed(error);
    }
  }

  #loadSoon(): void {
    const now = performance.now();
    if (this.#settle === undefined) this.#waitingSince = now;
    else if (now - this.#waitingSince >= longestSettleMs) return;
    clearTimeout(this.#settle);
    this.#settle = setTimeout(() => {
      this.#settle = undefined;
      // One load at a time: an older content must not be stored after a newer one.
      this.#loading = this.#loading
        .then(() => this.#load())
        .then(
          () => {
            this.#isStoreAway = false;
          },
          (error: unknown) => this.#report(error),
        );
    }, settleMs);
  }

  /** Once for each outage: a log in the folder of the file would be a change there, and cause the next load. */
  #report(error: unknown): void {
    const isReported = this.#isStoreAway;
    this.#isStoreAway = error instanceof TidegateError;
    if (!isReported || !this.#isStoreAway) this.#options.logger.error({ err: error }, "storing the rules file failed");
  }

  async #load(): Promise<void> {
    const read = await this.#read();
    if (read === undefined) return;
    const { text, isText } = read;
    const isUnchanged = text === this.#lastText;
    if (isUnchanged && (this.#findings.length > 0 || !(await this.#isLost()))) return;
    // A process that stores its file again may not be the first, nor have the newest.
    const changedAt = isUnchanged ? this.#lastChangedAt : read.changedAt;
    try {
      if (!isText) throw new InvalidDocument("rules", ["is not UTF-8"]);
      const document = checkRules(await parseDocumentText("rules", text), this.#options.environment);
      const made = changedAt === undefined ? {} : { changedAt, ifNewer: true };
      const { kind, version, changedAt: storedAt } = await this.#options.store.put({ document, ...made });
      const level = kind === "older" ? "warn" : "info";
      this.#options.logger[level]({ file: this.#options.path, outcome: kind, version }, "rules file read");
      this.#lastText = text;
      this.#lastChangedAt = kind === "older" ? Math.min(changedAt ?? storedAt, storedAt) : storedAt;
      this.#findings = [];
      await this.#options.currentRules.refresh();
    } catch (error) {
      if (!(error instanceof InvalidDocument)) throw error;
      this.#lastText = text;
      this.#findings = error.findings;
      this.#log(error.findings);
    }
  }

  /** Whether the store has no rules any more, or only some that are older than the file. */
  async #isLost(): Promise<boolean> {
    const stored = await this.#options.store.read();
    return !stored || stored.changedAt < this.#lastChangedAt;
  }

  /** Undefined, with a finding, where a file that was readable before is not at present. */
  async #read(): Promise<{ text: string; isText: boolean; changedAt?: number } | undefined> {
    try {
      // ctime, because a copy may keep an older modification time; read before the content, so that a change in between is newer.
      const { ctimeMs } = await stat(this.#options.path);
      const bytes = await readFile(this.#options.path);
      const text = bytes.toString("utf8");
      this.#unreadable = undefined;
      return {
        text,
        isText: isUtf8(bytes),
        // After the first load a change counts as made now: a changed link may lead to an older file.
        ...(this.#lastText === undefined && { changedAt: Math.floor(ctimeMs) }),
      };
    } catch (error) {
      // Of a folder the system does not say which one was read.
      if (this.#lastText === undefined) throw Object.assign(error as Error, { path: this.#options.path });
      const finding = `the file cannot be read: ${(error as Error).message}`;
      if (this.#unreadable === undefined) this.#log([finding]);
      this.#unreadable = finding;
      return undefined;
    }
  }

  #log(findings: readonly string[]): void {
    this.#options.logger.error(
      { file: this.#options.path, findings },
      "the rules file is not valid, the rules in force stay",
    );
  }
}
