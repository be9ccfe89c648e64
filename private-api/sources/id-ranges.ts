/** Lists of ids as text: `5-7,9`. Pure. */

/** @param ids ascending, as digits */
export function formatRanges(ids: readonly string[]): string {
  const ranges: { first: string; last: string }[] = [];
  for (const id of ids) {
    const range = ranges.at(-1);
    if (range && BigInt(range.last) + 1n === BigInt(id)) range.last = id;
    else ranges.push({ first: id, last: id });
  }
  return ranges.map(({ first, last }) => (first === last ? first : `${first}-${last}`)).join(",");
}

export function parseRanges(text: string): readonly { first: string; last: string }[] {
  return text.split(",").map((range) => {
    const [first = "", last = first] = range.split("-");
    return { first, last };
  });
}
