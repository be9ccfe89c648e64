/** How latencies are distributed, as text and as SVG. Pure. */

/** Upper bounds in ms, exclusive; the last bucket has none. */
const bounds = [
  -1_000,
  -100,
  -10,
  0,
  1,
  2,
  5,
  10,
  20,
  50,
  100,
  200,
  500,
  1_000,
  2_000,
  5_000,
  10_000,
  60_000,
  Infinity,
];
const barCharacters = 50;

export interface Bucket {
  readonly label: string;
  readonly count: number;
}

/** @param latencies in ms. @returns from the first bucket with any to the last */
export function bucketsOf(latencies: Iterable<number>): readonly Bucket[] {
  const counts = bounds.map(() => 0);
  for (const ms of latencies) {
    const at = bounds.findIndex((bound) => ms < bound);
    const index = at === -1 ? bounds.length - 1 : at;
    counts[index] = (counts[index] ?? 0) + 1;
  }
  const from = counts.findIndex((count) => count > 0);
  const to = counts.findLastIndex((count) => count > 0);
  if (from === -1) return [];
  return counts.slice(from, to + 1).map((count, at) => ({ label: labelOf(from + at), count }));
}

export function histogramText(buckets: readonly Bucket[]): string {
  const most = Math.max(...buckets.map(({ count }) => count));
  return buckets
    .map(({ label, count }) => {
      const bar = "#".repeat(Math.ceil((count / most) * barCharacters));
      return `${label.padStart(18)}  ${String(count).padStart(9)}  ${bar}`;
    })
    .join("\n");
}

const row = 22;
const left = 150;
const width = 720;
const barWidth = 460;

export function histogramSvg(buckets: readonly Bucket[], title: string): string {
  const most = Math.max(...buckets.map(({ count }) => count));
  const height = (buckets.length + 2) * row;
  const bars = buckets.map(({ label, count }, at) => {
    const y = (at + 1.6) * row;
    const length = Math.round((count / most) * barWidth);
    return `<text x="${left - 8}" y="${y + 12}" text-anchor="end">${escaped(label)}</text>
<rect x="${left}" y="${y}" width="${length}" height="${row - 6}" fill="#3b6ea5"/>
<text x="${left + length + 6}" y="${y + 12}">${count}</text>`;
  });
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" font-family="sans-serif" font-size="12">
<rect width="${width}" height="${height}" fill="#fff"/>
<text x="12" y="20" font-size="14">${escaped(title)}</text>
${bars.join("\n")}
</svg>
`;
}

function labelOf(index: number): string {
  const [from, to] = [bounds[index - 1], bounds[index] ?? Infinity];
  if (from === undefined) return `under ${shown(to)}`;
  return to === Infinity ? `${shown(from)} and more` : `${shown(from)} to ${shown(to)}`;
}

function shown(ms: number): string {
  return Math.abs(ms) >= 1_000 ? `${ms / 1_000} s` : `${ms} ms`;
}

function escaped(text: string): string {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;");
}
