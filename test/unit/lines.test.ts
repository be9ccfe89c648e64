import fc from "fast-check";
import { expect, test } from "vitest";
import { LineSplitter } from "../../shared/json/lines.ts";

const maxLineBytes = 20;

function split(text: Buffer, chunkSizes: readonly number[]): { text: string; cut: boolean }[] {
  const splitter = new LineSplitter(maxLineBytes);
  const lines: { text: string; cut: boolean }[] = [];
  for (let from = 0, chunk = 0; from < text.length; chunk++) {
    const size = chunkSizes[chunk % chunkSizes.length] ?? 1;
    for (const { bytes, cut } of splitter.push(text.subarray(from, from + size))) {
      lines.push({ text: bytes.toString(), cut });
    }
    from += size;
  }
  return lines;
}

test("lines do not depend on chunks; a long line is cut, the next one is intact", () => {
  const line = fc.string({ unit: fc.constantFrom("a", "b", " ", "\t"), maxLength: 2 * maxLineBytes });
  const sizes = fc.array(fc.integer({ min: 1, max: 50 }), { minLength: 1 });
  fc.assert(
    fc.property(fc.array(line), sizes, (texts, chunkSizes) => {
      const expected = texts
        .filter((text) => text !== "")
        .map((text) => ({ text: text.slice(0, maxLineBytes), cut: text.length > maxLineBytes }));
      expect(split(Buffer.from(texts.map((text) => `${text}\n`).join("")), chunkSizes)).toEqual(expected);
    }),
  );
});

test("a character split over two chunks is intact in its line", () => {
  expect(split(Buffer.from("ä😀\n"), [1])).toEqual([{ text: "ä😀", cut: false }]);
});

test("a long line that arrives byte by byte takes linear time", () => {
  const splitter = new LineSplitter(1024 * 1024);
  const byte = Buffer.from("x");
  const before = process.cpuUsage();
  for (let i = 0; i < 512 * 1024; i++) splitter.push(byte);
  const [line] = splitter.push(Buffer.from("\n"));
  const { user, system } = process.cpuUsage(before);
  expect(line?.bytes.length).toBe(512 * 1024);
  // With quadratic copying this would take minutes.
  expect((user + system) / 1_000).toBeLessThan(5_000);
});
