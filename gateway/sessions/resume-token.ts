/**
 * A client's identity and session, sealed: any node resumes the session by it without asking another service. It outlives
 * the token that the session began with by a fixed time; a resumed session cannot extend that.
 */
import { Type } from "typebox";
import { Compile } from "typebox/compile";
import { maxResumeTokenLength } from "../../shared/protocol/limits.ts";
import { Sealer } from "../../shared/tokens/sealing.ts";
import { type Claim, maxResumeMs } from "../../shared/sessions/contract.ts";
import { type Credentials, readClaims } from "./authentication.ts";

/** After the expiry of the JWT: time to reconnect and to fetch a new one. */
const beyondExpiryMs = 15 * 60_000;

const Content = Compile(
  Type.Object({
    sessionId: Type.String(),
    claim: Type.Integer(),
    checkedAt: Type.Integer(),
    claims: Type.Record(Type.String(), Type.Unknown()),
    tokenId: Type.String(),
    issuedAt: Type.Optional(Type.Number()),
    granted: Type.Array(Type.String()),
    info: Type.Optional(Type.Unknown()),
    until: Type.Integer(),
  }),
);

/** What another node needs to resume a session. */
export interface Resumable extends Claim {
  sessionId: string;
  credentials: Credentials;
  /** Of the JWT; without `iat`, when the session first presented it. Unix ms. Builds before it seal none. */
  issuedAt: number | undefined;
  grantedChannels: readonly string[];
  info: unknown;
}

/** Unix ms: neither a resume token nor a grant outlives this. */
export function resumableUntil(credentials: Credentials, now: number): number {
  const { exp } = credentials.claims;
  return Math.floor(Math.min(Number(exp) * 1000 + beyondExpiryMs, now + maxResumeMs));
}

export class ResumeTokens {
  readonly #sealer: Sealer;

  constructor(secrets: readonly [string, ...string[]]) {
    this.#sealer = new Sealer("resume", secrets);
  }

  /** @returns null where the token would be too long for a handshake: such a session cannot resume. */
  seal({ credentials, grantedChannels, info, ...held }: Resumable): string | null {
    const { claims, tokenId } = credentials;
    const until = resumableUntil(credentials, Date.now());
    const token = this.#sealer.seal({ ...held, claims, tokenId, granted: grantedChannels, info, until });
    return token.length <= maxResumeTokenLength ? token : null;
  }

  /** @returns undefined for an invalid or expired token. */
  open(token: string): Resumable | undefined {
    if (token.length > maxResumeTokenLength) return undefined;
    const content = this.#sealer.open(token);
    if (!Content.Check(content) || content.until <= Date.now()) return undefined;
    const { sessionId, claim, checkedAt, claims, tokenId, issuedAt, granted, info } = content;
    const read = readClaims(claims, tokenId);
    if (read.kind === "refused") return undefined;
    const { credentials } = read;
    return { sessionId, claim, checkedAt, credentials, issuedAt, grantedChannels: granted, info };
  }
}
