/**
 * Text and bytes as parts that are short to store and easy to read and minimise: literal text, repetitions, and values of
 * the running deployment.
 */
import { createHmac } from "node:crypto";
import { type Static, Type } from "typebox";

const closed = { additionalProperties: false } as const;
const Times = Type.Integer({ minimum: 0, maximum: 2_000_000 });

/** Values of the running deployment, and values that the server sent in a conversation. */
const LiveName = Type.Enum([
  "token",
  /** The token of the conversation's session. */
  "sameToken",
  "expiredToken",
  "apiToken",
  "rulesToken",
  "relayToken",
  "namespaces",
  "services",
  "routes",
  "sid",
  "resume",
  "grant",
  "epoch",
  "id",
]);
export type LiveName = Static<typeof LiveName>;

export const Part = Type.Union([
  Type.String(),
  Type.Object({ repeat: Type.String(), times: Times }, closed),
  /** As `repeat`; the number of the repetition replaces each `#`. */
  Type.Object({ count: Type.String(), times: Times }, closed),
  Type.Object({ hex: Type.String({ pattern: "^([0-9a-f]{2})*$" }) }, closed),
  /** A token with these claims, any text, signed with the clients' secret. */
  Type.Object({ jwt: Type.String(), header: Type.Optional(Type.String()) }, closed),
  Type.Object({ live: LiveName }, closed),
]);
export type Part = Static<typeof Part>;
export type Parts = readonly Part[];

/** Values for rendering. */
export interface Live {
  readonly jwtSecret: string;
  value(name: LiveName): string;
}

export function render(parts: Parts, live: Live): Buffer {
  if (parts.every((part) => typeof part === "string")) return Buffer.from(parts.join(""));
  return Buffer.concat(parts.map((part) => renderPart(part, live)));
}

export function renderText(parts: Parts, live: Live): string {
  return render(parts, live).toString();
}

function renderPart(part: Part, live: Live): Buffer {
  if (typeof part === "string") return Buffer.from(part);
  if ("repeat" in part) return Buffer.from(part.repeat.repeat(part.times));
  if ("hex" in part) return Buffer.from(part.hex, "hex");
  if ("live" in part) return Buffer.from(live.value(part.live));
  if ("jwt" in part) return Buffer.from(signedToken(part.jwt, live.jwtSecret, part.header));
  const texts: string[] = [];
  for (let i = 0; i < part.times; i++) texts.push(part.count.replaceAll("#", String(i)));
  return Buffer.from(texts.join(""));
}

const signed = new Map<string, string>();
const maxSigned = 500;

/** Signs with HS256, whatever the header says. */
export function signedToken(claims: string, secret: string, header = '{"alg":"HS256"}'): string {
  const key = [secret, header, claims].join("\n");
  const known = signed.get(key);
  if (known !== undefined) return known;
  const content = [header, claims].map((text) => Buffer.from(text).toString("base64url")).join(".");
  const token = `${content}.${createHmac("sha256", secret).update(content).digest("base64url")}`;
  if (signed.size >= maxSigned) signed.clear();
  signed.set(key, token);
  return token;
}
