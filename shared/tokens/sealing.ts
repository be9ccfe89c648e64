/**
 * Seals data that a client stores for the gateway: clients cannot read or change it, or use it for another purpose. AES-256-GCM with
 * a separate key for each sealing, derived from a secret and a random salt: so the bound on random nonces under one key (NIST
 * SP 800-38D, 8.3) is never reached.
 */
import { createCipheriv, createDecipheriv, createHash, createHmac, randomBytes } from "node:crypto";
import { parseJson } from "../json/json.ts";

const version = 1;
const saltBytes = 16;
const tagBytes = 16;
/** Identifies the secret. */
const secretIdBytes = 4;
const headBytes = 1 + secretIdBytes + saltBytes;
/** Fixed, because each key is used once. */
const nonce = Buffer.alloc(12);

interface Secret {
  id: Buffer;
  key: Buffer;
}

export class Sealer {
  readonly #purpose: string;
  readonly #secrets: readonly [Secret, ...Secret[]];

  /**
   * @param purpose data sealed for one purpose does not open for another.
   * @param secrets the first one seals, all of them open. To rotate, prepend a new secret and remove the old one later.
   */
  constructor(purpose: string, secrets: readonly [string, ...string[]]) {
    this.#purpose = purpose;
    const [first, ...others] = secrets;
    this.#secrets = [prepare(first), ...others.map(prepare)];
  }

  /** @returns base64url text. */
  seal(content: object): string {
    const [secret] = this.#secrets;
    const salt = randomBytes(saltBytes);
    const head = Buffer.concat([Buffer.of(version), secret.id, salt]);
    const cipher = createCipheriv("aes-256-gcm", this.#keyOf(secret, salt), nonce).setAAD(head);
    const sealed = Buffer.concat([cipher.update(JSON.stringify(content), "utf8"), cipher.final()]);
    return Buffer.concat([head, cipher.getAuthTag(), sealed]).toString("base64url");
  }

  /** @returns the content, not validated; undefined for text that was not sealed for this purpose. */
  open(text: string): unknown {
    const bytes = Buffer.from(text, "base64url");
    if (bytes.length < headBytes + tagBytes || bytes[0] !== version) return undefined;
    const head = bytes.subarray(0, headBytes);
    const id = head.subarray(1, 1 + secretIdBytes);
    const secret = this.#secrets.find((candidate) => candidate.id.equals(id));
    if (!secret) return undefined;
    const decipher = createDecipheriv("aes-256-gcm", this.#keyOf(secret, head.subarray(1 + secretIdBytes)), nonce)
      .setAAD(head)
      .setAuthTag(bytes.subarray(headBytes, headBytes + tagBytes));
    try {
      const content = Buffer.concat([decipher.update(bytes.subarray(headBytes + tagBytes)), decipher.final()]);
      return parseJson(content.toString("utf8"));
    } catch {
      // The text was changed, or sealed for another purpose.
      return undefined;
    }
  }

  #keyOf({ key }: Secret, salt: Buffer): Buffer {
    return createHmac("sha256", key).update(this.#purpose).update("\0").update(salt).digest();
  }
}

/** Tells secrets apart, as sealed data does: 32 bits of a hash. */
export function secretId(text: string): string {
  return prepare(text).id.toString("hex");
}

function prepare(text: string): Secret {
  const key = createHash("sha256").update(`tidegate sealing\0${text}`).digest();
  return { id: createHash("sha256").update(key).digest().subarray(0, secretIdBytes), key };
}
