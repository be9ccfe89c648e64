import fc from "fast-check";
import { expect, test } from "vitest";
import { type FrameHead, FrameScanner } from "../../gateway/engine/frame-scanner.ts";
import { clientFrame } from "../support/raw-websocket.ts";

const anyFrame = fc.record({
  kind: fc.constantFrom("continuation", "text", "binary", "ping", "pong"),
  length: fc.oneof(fc.integer({ min: 0, max: 130 }), fc.integer({ min: 65_530, max: 65_540 }), fc.constant(70_000)),
  fin: fc.boolean(),
});
const opcodes = { continuation: 0, text: 1, binary: 2, ping: 9, pong: 10 } as const;

/** Cuts `bytes` at the given places, which may be the same or out of bounds. */
function torn(bytes: Buffer, places: readonly number[]): Buffer[] {
  const cuts = [0, ...places.map((place) => place % (bytes.length + 1)).sort((a, b) => a - b), bytes.length];
  return cuts.slice(1).map((end, i) => bytes.subarray(cuts[i], end));
}

test("LIM-8: every frame is counted once with its length, however TCP splits it", () => {
  fc.assert(
    fc.property(
      fc.array(anyFrame, { maxLength: 8 }),
      fc.array(fc.nat({ max: 300_000 }), { maxLength: 30 }),
      fc.boolean(),
      (frames, places, singly) => {
        const bytes = Buffer.concat(
          frames.map(({ kind, length, fin }) => clientFrame(kind, Buffer.alloc(length), fin)),
        );
        const heads: FrameHead[] = [];
        const scanner = new FrameScanner((head) => {
          heads.push({ ...head });
          return true;
        });
        const small = bytes.subarray(0, 2_000);
        const chunks = singly ? [...torn(small, [...small.keys()]), bytes.subarray(2_000)] : torn(bytes, places);
        for (const chunk of chunks) expect(scanner.scan(chunk)).toBe(true);
        expect(heads).toEqual(frames.map(({ kind, length, fin }) => ({ opcode: opcodes[kind], length, fin })));
      },
    ),
  );
});

test("LIM-8: scanning stops at the frame that is refused", () => {
  let seen = 0;
  const scanner = new FrameScanner(() => ++seen < 3);
  const frame = clientFrame("ping", "");
  expect(scanner.scan(Buffer.concat([frame, frame]))).toBe(true);
  expect(scanner.scan(Buffer.concat([frame, frame, frame]))).toBe(false);
  expect(seen).toBe(3);
});
