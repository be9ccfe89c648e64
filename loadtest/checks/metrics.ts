/** Reads a program's Prometheus metrics. */

/** @param url of the gateway's admin port or of the private API. Throws where there is no answer in time. */
export async function readMetrics(url: string, withinMs = 5_000): Promise<string> {
  const answer = await fetch(`${url}/metrics`, { signal: AbortSignal.timeout(withinMs) });
  return answer.text();
}

/**
 * @param series its name without `tidegate_`, with its labels.
 * @param absent the value where the page does not have it: a counter that never counted.
 */
export function metricValue(page: string, series: string, absent = 0): number {
  const start = `tidegate_${series} `;
  const line = page.split("\n").find((candidate) => candidate.startsWith(start));
  return line === undefined ? absent : Number(line.slice(start.length));
}
