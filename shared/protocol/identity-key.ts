/** Identifies a user, and gives the key under which stores keep data by user. Pure. */

/** A user, within a tenant or without one. The same name in another tenant is another user. */
export interface UserIdentity {
  user: string;
  tenant?: string | undefined;
}

declare const identityKeyBrand: unique symbol;
/** Branded, so that a bare name cannot serve as a key. Made by {@link identityKey}. */
export type IdentityKey = string & { readonly [identityKeyBrand]: true };

/** U+001F, the unit separator: rare at the beginning of a name. */
const marker = "\u001f";

/**
 * Different identities have different keys. The key of a user without a tenant is the name, so that data of a fleet without
 * tenants stays valid. Any other key is the marker, the percent-encoded tenant (which has no colon), a colon and the name. A name
 * without a tenant that begins with the marker gets that form with an empty tenant, which no token has.
 *
 * Everything that the fleet keeps about one user is in the slot of the key ({@link slotOf} of shared/redis/slots.ts).
 * @param identity with well-formed names: others could become equal in UTF-8.
 */
export function identityKey({ user, tenant }: UserIdentity): IdentityKey {
  const isPlain = tenant === undefined && !user.startsWith(marker);
  return (isPlain ? user : `${marker}${encodeURIComponent(tenant ?? "")}:${user}`) as IdentityKey;
}
