/** The answer to a provider, and what the metrics call it. */
export interface HookAnswer {
  readonly outcome: "accepted" | "duplicate" | "dropped" | "journaled" | "challenge" | "answered";
  /** Parts that were dropped, see `StoredWebhook`. */
  readonly droppedParts?: number;
  readonly status: number;
  readonly text?: string;
  readonly contentType?: string;
}

const plain = "text/plain; charset=utf-8";

export function challengeAnswer(challenge: string): HookAnswer {
  return { outcome: "challenge", status: 200, text: challenge, contentType: plain };
}
