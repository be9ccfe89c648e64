import { SignJWT } from "jose";

/** A client's token, valid for longer than any run. @param claims such as the channels that it grants. */
export async function loadToken(
  jwtSecret: string,
  user: string,
  claims: Record<string, unknown> = {},
): Promise<string> {
  return new SignJWT(claims)
    .setProtectedHeader({ alg: "HS256" })
    .setSubject(user)
    .setExpirationTime("4h")
    .sign(new TextEncoder().encode(jwtSecret));
}
