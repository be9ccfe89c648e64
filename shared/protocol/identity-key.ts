/** Who a user is, and the one text that stands for that wherever something is kept by user. Pure. */

/** A user within a tenant, or without one: the same name in another tenant is another user. */
export interface UserIdentity {
  user: string;
  tenant?: string | undefined;
}

declare const identityKeyBrand: unique symbol;
/** Made by {@link identityKey} only, so that a bare name never stands for a user. */
export type IdentityKey = string & { readonly [identityKeyBrand]: true };

/** Names hardly ever begin with it: U+001F, the unit separator. */
const marker = "\u001f";

/**
 * Different identities have different keys. The key of a user without a tenant is the name, so that what a fleet without
 * tenants has stored stays valid. Any other key is the marker, the tenant percent-encoded, a colon and the name; the
 * encoded tenant has no colon. A name without a tenant that begins with the marker gets that form with an empty tenant,
 * which no token has.
 *
 * Everything that the fleet keeps about one user is in the slot of the key ({@link slotOf} of shared/redis/slots.ts).
 * @param identity of well-formed names: in UTF-8 others become one another.
 */
export function identityKey({ user, tenant }: UserIdentity): IdentityKey {
  const isPlain = tenant === undefined && !user.startsWith(marker);
  return (isPlain ? user : `${marker}${encodeURIComponent(tenant ?? "")}:${user}`) as IdentityKey;
}
