/** Reads a reference and the ledger of an endpoint into a comparison. */
import type { EndpointApi } from "../endpoint-api.ts";
import type { Comparison } from "./comparison.ts";
import { ledgerPages } from "./ledger-pages.ts";
import { type Pointers, referenceLines } from "./reference-lines.ts";

/** @throws BadLine, and Error where a file or the ledger cannot be read */
export async function readBothSides(
  comparison: Comparison,
  from: {
    api: EndpointApi;
    endpoint: string;
    reference: string;
    /** Of captured requests; undefined: all. */
    path: string | undefined;
    pointers: Pointers;
  },
): Promise<void> {
  // Before the ledger: what was sent is in the ledger by then.
  for await (const line of referenceLines(from.reference, from.pointers, from.path)) {
    comparison.addReference(from.reference, line);
  }
  for await (const page of ledgerPages(from.api, from.endpoint)) {
    for (const line of page) comparison.addLedger(line);
  }
  comparison.match();
}
