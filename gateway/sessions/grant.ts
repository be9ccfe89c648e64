/** Sealed proof that a user may follow a channel. A client that presents it needs no other authorization. */
import { type Static, Type } from "typebox";
import { Compile } from "typebox/compile";
import { Sealer } from "../../shared/tokens/sealing.ts";

const Grant = Type.Object({
  user: Type.String(),
  tenant: Type.Optional(Type.String()),
  channel: Type.String(),
  /** Unix ms by the store's clock: a later withdrawal voids the grant. */
  at: Type.Number(),
  /** Unix ms. */
  until: Type.Number(),
  /** Others in the channel see this of the user. */
  info: Type.Optional(Type.Unknown()),
});
export type Grant = Static<typeof Grant>;
const validator = Compile(Grant);

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
    return validator.Check(content) && content.until > Date.now() ? content : undefined;
  }
}
