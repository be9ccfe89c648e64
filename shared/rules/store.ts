/** The contract for where the rules document is kept. Memory and Redis pass the same suite. */
import type { Service } from "../lifecycle.ts";
import type { RulesDocument } from "./document.ts";

export interface StoredRules {
  /** 1, 2, 3…: grows with each change. */
  version: number;
  /** Unix ms. */
  changedAt: number;
  /** As it was written; another version of the program may have checked it. */
  document: unknown;
}

export interface PutRules {
  /** Has passed checkRules. */
  document: RulesDocument;
  /** Unix ms. */
  changedAt: number;
  /** Store only over this version. */
  ifVersion?: number;
  /** Store only over rules that changed earlier: of several files the newest wins. */
  ifNewer?: boolean;
}

export interface PutOutcome {
  /** `unchanged`: the same document is stored already. */
  kind: "stored" | "unchanged" | "older" | "version_differs";
  /** The version stored now. */
  version: number;
}

export interface RulesStore extends Service {
  read(): Promise<StoredRules | undefined>;
  put(request: PutRules): Promise<PutOutcome>;
  /** Called after a change by anyone, and when changes may have been missed. */
  onChange(listener: () => void): void;
}
