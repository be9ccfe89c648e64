import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { advance, replayStart } from "../../client/src/channels/position.ts";

const ack = { channel: "board:1", position: { epoch: "e2", offset: 9 }, publications: [] };

describe("client position", () => {
  test("delivered offsets grow up to the highest, whatever arrives late or again", () => {
    fc.assert(
      fc.property(fc.nat(50), fc.array(fc.integer({ min: 1, max: 100 })), (start, offsets) => {
        let position = { epoch: "e1", offset: start };
        const delivered: number[] = [];
        for (const offset of offsets) {
          const next = advance(position, offset);
          if (!next) continue;
          delivered.push(offset);
          position = next;
        }
        expect(delivered).toEqual([...new Set(delivered)].sort((a, b) => a - b));
        expect(position).toEqual({ epoch: "e1", offset: Math.max(start, ...offsets) });
      }),
    );
  });

  test("a recovered replay begins at the position presented", () => {
    const presented = { epoch: "e2", offset: 7 };
    expect(replayStart(presented, { ...ack, recovered: true })).toEqual(presented);
  });

  test("a replay of another epoch, or without recovery, begins at offset 0", () => {
    const beginning = { epoch: "e2", offset: 0 };
    expect(replayStart({ epoch: "e1", offset: 50 }, { ...ack, recovered: true })).toEqual(beginning);
    expect(replayStart({ epoch: "e2", offset: 50 }, { ...ack, recovered: false })).toEqual(beginning);
    expect(replayStart(null, { ...ack, recovered: false })).toEqual(beginning);
  });
});
