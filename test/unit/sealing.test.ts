import { expect, test } from "vitest";
import { Sealer } from "../../shared/tokens/sealing.ts";

const old = "an old secret, long enough for its purpose";
const current = "a new secret, long enough for its purpose";

test("RES-4: sealed text opens only unchanged, with its secret and for its purpose", () => {
  const sealer = new Sealer("resume", [current]);
  const sealed = sealer.seal({ user: "ada" });
  expect(sealer.open(sealed)).toEqual({ user: "ada" });
  expect(new Sealer("grant", [current]).open(sealed)).toBeUndefined();
  expect(new Sealer("resume", [old]).open(sealed)).toBeUndefined();
  const bytes = Buffer.from(sealed, "base64url");
  for (let at = 0; at < bytes.length; at++) {
    const changed = Buffer.from(bytes);
    changed[at] = (changed[at] ?? 0) ^ 1;
    expect(sealer.open(changed.toString("base64url")), `byte ${at}`).toBeUndefined();
  }
  for (const text of ["", "A", sealed.slice(0, 20), sealed.slice(0, -4)]) expect(sealer.open(text)).toBeUndefined();
  expect(sealer.seal({ user: "ada" })).not.toBe(sealed);
});

test("RES-8: secrets rotate without ending sessions: the first seals, all open", () => {
  const before = new Sealer("resume", [old]).seal({ n: 1 });
  const during = new Sealer("resume", [current, old]);
  expect(during.open(before)).toEqual({ n: 1 });
  expect(new Sealer("resume", [current]).open(during.seal({ n: 2 }))).toEqual({ n: 2 });
  expect(new Sealer("resume", [old]).open(during.seal({ n: 2 }))).toBeUndefined();
});
