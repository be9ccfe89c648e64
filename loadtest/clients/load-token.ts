import { SignJWT } from "jose";

/** A client's token, valid for an hour. @param claims such as the channels that it grants. */
export async function loadToken(
  jwtSecret: string,
  user: string,
  claims: Record<string, unknown> = {},
): Promise<string> {
  return new SignJWT(claims)
    .setProtectedHeader({ alg: "HS256" })
    .setSubject(user)
    .setExpirationTime("1h")
    .sign(new TextEncoder().encode(jwtSecret));
}
