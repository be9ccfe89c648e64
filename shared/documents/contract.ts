/** The contract of the store of a versioned document: the rules, the rollouts or the map of cells. Memory and Redis pass the same suite. */
import type { Service } from "../runtime/lifecycle.ts";

/** Each document has versions of its own. */
export type DocumentName = "rules" | "rollouts" | "cells";

export interface StoredDocument {
  /** 1, 2, 3…: one more for each change. */
  version: number;
  /** Unix ms, by the clock of the store; never before that of the version before. */
  changedAt: number;
  /** As written, possibly by another version of the program: check it. */
  document: unknown;
}

export interface PutDocument {
  /** Valid: the caller has checked it. */
  document: object;
  /** Unix ms. A time that the store has not reached counts as now, by the clock of the store; so does none. */
  changedAt?: number;
  /** Store only if this is the current version; 0: only if nothing is stored. */
  ifVersion?: number;
  /** Store only over an older document: of several files the newest wins. */
  ifNewer?: boolean;
  /** The new version at the least: versions continue where the store has lost some. */
  version?: number;
}

export interface PutOutcome {
  /** `unchanged`: the store has the same document. */
  kind: "stored" | "unchanged" | "older" | "version_differs";
  /** The version in the store after the call. */
  version: number;
  /** Of that version; 0: nothing is stored. */
  changedAt: number;
}

export interface DocumentStore extends Service {
  read(): Promise<StoredDocument | undefined>;
  put(request: PutDocument): Promise<PutOutcome>;
  /** Calls the listener after every change, and when a change may have been missed. */
  onChange(listener: () => void): void;
}
