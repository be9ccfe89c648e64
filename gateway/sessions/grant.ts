/** Sealed proof that a user may follow a channel. A client that presents it needs no other authorization. */
import { Type } from "typebox";
import { Compile } from "typebox/compile";
import { Sealer } from "../../shared/tokens/sealing.ts";

const Content = Compile(
  Type.Object({
    user: Type.String(),
    tenant: Type.Optional(Type.String()),
    channel: Type.String(),
    at: Type.Number(),
    until: Type.Number(),
    info: Type.Optional(Type.Unknown()),
  }),
);

export interface Grant {
  user: string;
  tenant?: string;
  channel: string;
  /** Unix ms by the store's clock: a later withdrawal voids the grant. */
  at: number;
  /** Unix ms. */
  until: number;
  /** Others in the channel see this of the user. */
  info?: unknown;
}

export class Grants {
  readonly #sealer: Sealer;

  constructor(secrets: readonly [string, ...string[]]) {
    this.#sealer = new Sealer("grant", secrets);
  }

  seal(grant: Grant): string {
    return this.#sealer.seal(grant);
  }

  /** @returns undefined for an invalid or expired seal. The caller compares user, tenant and channel. */
  open(sealed: string): Grant | undefined {
    const content = this.#sealer.open(sealed);
    return Content.Check(content) && content.until > Date.now() ? content : undefined;
  }
}
