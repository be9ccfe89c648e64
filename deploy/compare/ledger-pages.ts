/** Reads the ledger of an endpoint from the private API, page by page. */
import { type EndpointApi, endpointPath } from "../endpoint-api.ts";

const pageLines = 1_000;
const pageMs = 60_000;

/**
 * @param sentSeconds of a shadow: what it was sent in the last seconds before its position
 * @throws Error where the API refuses or cannot be reached
 */
export async function* ledgerPages(
  api: EndpointApi,
  id: string,
  sentSeconds?: number,
): AsyncGenerator<readonly string[]> {
  const sent = sentSeconds === undefined ? "" : `&sentSeconds=${sentSeconds}`;
  let after = "";
  for (;;) {
    const path = endpointPath(id, `/ledger?limit=${pageLines}${sent}${after}`);
    const text = await api.text("GET", path, { withinMs: pageMs });
    const lines = text.split("\n").filter((line) => line !== "");
    const next = lines.length > pageLines ? (JSON.parse(lines.at(-1) ?? "{}") as { next?: string }).next : undefined;
    yield next === undefined ? lines : lines.slice(0, -1);
    if (next === undefined) return;
    after = `&after=${encodeURIComponent(next)}`;
  }
}
