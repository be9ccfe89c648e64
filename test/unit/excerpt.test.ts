import { expect, test } from "vitest";
import { InvalidDocument } from "../../shared/runtime/invalid-document.ts";
import { TidegateError } from "../../shared/runtime/errors.ts";
import { excerpt } from "../../shared/runtime/excerpt.ts";
import { createLogger } from "../../shared/runtime/logging.ts";
import { describeFindings } from "../../shared/runtime/schema-errors.ts";

const long = `first line\nsecond ${"x".repeat(1_000_000)}`;

test("ECHO-1: an excerpt is one line of at most 100 characters and a count", () => {
  expect(excerpt("card.moved ä 🚀")).toBe("card.moved ä 🚀");
  expect(excerpt("a\r\nb\u2028c\u0000")).toBe("a\\u000d\\u000ab\\u2028c\\u0000");
  expect(excerpt("a\u007fb\u009b2J")).toBe("a\\u007fb\\u009b2J");
  expect(excerpt("x".repeat(100))).toBe("x".repeat(100));
  expect(excerpt("x".repeat(101))).toBe(`${"x".repeat(100)}… (101 characters)`);
  expect(excerpt("🚀".repeat(60), 99).isWellFormed()).toBe(true);
});

test("ECHO-1: the message of an error is bounded whatever it quotes", () => {
  const { message } = new TidegateError("invalid_request", `what was sent: ${long}`);
  expect(message.length).toBeLessThan(1_100);
  expect(message).toMatch(/^what was sent: first line\\u000asecond x+… \(\d+ characters\)$/);
});

test("ECHO-1: a finding names at most 20 unknown members, each cut to 100 characters", () => {
  const additionalProperties = Array.from({ length: 5_000 }, (_, i) => `${i} ${long}`);
  const params = { additionalProperties };
  const [line = ""] = describeFindings([
    { instancePath: `/${long}`, message: "must not have additional properties", params },
  ]);
  expect(line.length).toBeLessThan(4_000);
  expect(line).toMatch(/, and 4980 more\)$/);
  const few = { instancePath: "", message: "must not have", params: { additionalProperties: ["a", "b"] } };
  expect(describeFindings([few])).toEqual(["must not have (a, b)"]);
});

test("ECHO-1: a log line of an error is bounded and keeps the trace", () => {
  let log = "";
  const logger = createLogger({ name: "test", level: "info", destination: { write: (line) => void (log += line) } });
  logger.error({ err: new Error(long, { cause: new Error(long) }) }, "failed");
  expect(log.length).toBeLessThan(16_000);
  expect(log.trimEnd().split("\n")).toHaveLength(1);
  const { err } = JSON.parse(log) as { err: { message: string; stack: string; cause: string } };
  expect(err.message).toMatch(/^first line/);
  expect(err.stack).toMatch(/\n {4}at .*excerpt\.test\.ts/);
});

test("BAD-7: log lines of errors and findings contain no secret of a URL or service", () => {
  const text =
    'no "https://ada:pa@ss@id.example/keys" and redis://:hid/den@r:1/0 https://a/b?key=hidden, secret: whsec_hidden/+=';
  const shown = 'no "https://***@id.example/keys" and redis://***@r:1/0 https://a/b?*** secret: whsec_***';
  let log = "";
  const logger = createLogger({ name: "test", level: "info", destination: { write: (line) => void (log += line) } });
  logger.error({ err: new Error(text, { cause: new Error(text) }) }, "failed");
  expect((JSON.parse(log) as { err: object }).err).toMatchObject({ message: shown, cause: shown });
  expect(new InvalidDocument("rules", [text])).toMatchObject({ findings: [shown] });
  for (const secret of ["hid", "pa@ss", "ada"]) expect(log).not.toContain(secret);
});
