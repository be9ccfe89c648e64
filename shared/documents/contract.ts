/** The contract for where a versioned document is kept: the rules, the rollouts. Memory and Redis pass the same suite. */
import type { Service } from "../runtime/lifecycle.ts";

/** What is kept: each has its own versions. */
export type DocumentName = "rules" | "rollouts";

export interface StoredDocument {
  /** 1, 2, 3…: grows with each change. */
  version: number;
  /** Unix ms. */
  changedAt: number;
  /** As it was written; another version of the program may have checked it. */
  document: unknown;
}

export interface PutDocument {
  /** Has been checked. */
  document: object;
  /** Unix ms. */
  changedAt: number;
  /** Store only over this version; 0: only where nothing is stored. */
  ifVersion?: number;
  /** Store only over a document that changed earlier: of several files the newest wins. */
  ifNewer?: boolean;
}

export interface PutOutcome {
  /** `unchanged`: the same document is stored already. */
  kind: "stored" | "unchanged" | "older" | "version_differs";
  /** The version stored now. */
  version: number;
}

export interface DocumentStore extends Service {
  read(): Promise<StoredDocument | undefined>;
  put(request: PutDocument): Promise<PutOutcome>;
  /** Called after a change by anyone, and when changes may have been missed. */
  onChange(listener: () => void): void;
}
