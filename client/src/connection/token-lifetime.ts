/** `exp` − `iat` of a JWT in ms, by the issuer's clock alone; undefined where the token does not tell. No I/O. */
export function lifetimeMsOf(token: string): number | undefined {
  try {
    const payload = (token.split(".")[1] ?? "").replaceAll("-", "+").replaceAll("_", "/");
    const { iat, exp } = JSON.parse(atob(payload)) as { iat: number; exp: number };
    const lifetimeMs = (exp - iat) * 1_000;
    return lifetimeMs > 0 ? lifetimeMs : undefined;
  } catch {
    return undefined;
  }
}
