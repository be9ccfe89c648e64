/** Recovery against a model: a history with jumps and trimming, and clients at any position. */
import fc from "fast-check";
import { expect, test } from "vitest";
import type { Publication } from "../../shared/channels/contract.ts";
import { bridge } from "../../gateway/channels/recovery.ts";

const epoch = "e";

/** Every offset ever published, in order; gaps between them are jumps. */
const offsetsArbitrary = fc
  .array(fc.integer({ min: 1, max: 3 }), { minLength: 1, maxLength: 30 })
  .map((steps) => steps.map((_, i) => steps.slice(0, i + 1).reduce((sum, step) => sum + (step === 3 ? 1_000 : 1), 0)));

function publications(offsets: readonly number[]): Publication[] {
  return offsets.map((offset, i) => ({ offset, prev: offsets[i - 1] ?? 0, event: "e", data: "1" }));
}

test("REC-1: a bridge gives exactly what was missed, or says why it cannot", () => {
  fc.assert(
    fc.property(offsetsArbitrary, fc.nat(), fc.nat(), (offsets, keptSeed, fromSeed) => {
      const all = publications(offsets);
      const last = offsets.at(-1) ?? 0;
      const kept = all.slice(keptSeed % (all.length + 1));
      const from = fromSeed % (last + 2);
      const position = { epoch, offset: last };
      const slice = { position, publications: kept.filter(({ offset }) => offset > from), more: false };
      const way = bridge({ epoch, offset: from }, slice);

      const existed = from === 0 || offsets.includes(from);
      const missed = all.filter(({ offset }) => offset > from);
      const bridgeable = existed && missed.every((publication) => kept.includes(publication));
      if (bridgeable) expect(way).toEqual({ kind: "bridged", publications: missed, position });
      else {
        expect(way.kind).toBe("broken");
        if (from > last && way.kind === "broken") expect(way.reason).toBe("position_ahead");
        if (existed && way.kind === "broken") expect(way.reason).toBe("history_trimmed");
      }
    }),
  );
});

test("REC-2: another epoch is epoch_changed, whatever the offsets", () => {
  fc.assert(
    fc.property(fc.nat(), fc.nat(), (from, last) => {
      const slice = { position: { epoch: "new", offset: last }, publications: [], more: false };
      expect(bridge({ epoch, offset: from }, slice)).toEqual({ kind: "broken", reason: "epoch_changed" });
    }),
  );
});
