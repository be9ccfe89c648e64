/** What an operator does at the end of a run, so that the service gets every item: retries dead letters, and releases parked keys. */
import type { PrivateApiAddress } from "../checker/private-api.ts";
import type { KeyLedger } from "./key-ledger.ts";
import { deadItems, release, retryDeadItem } from "./operations.ts";

/** A key with items and no request for so long may be parked. */
const silentMs = 3_000;

/**
 * One by one, by id: the ledgers know that each of these comes to the tail of its key. What fails meanwhile is left to the next call.
 * @throws where the API fails
 */
export async function retryDeadItems(api: PrivateApiAddress, ledgers: readonly KeyLedger[]): Promise<void> {
  const byKey = new Map(ledgers.map((ledger) => [ledger.key, ledger]));
  for (const item of await deadItems(api, new Set(byKey.keys()))) {
    byKey.get(item.key)?.deadLetter(item.number);
    await retryDeadItem(api, item);
  }
}

/** @throws where the API fails */
export async function releaseSilentKeys(api: PrivateApiAddress, ledgers: readonly KeyLedger[]): Promise<void> {
  const silentSince = performance.now() - silentMs;
  const silent = ledgers.filter(({ deliveries }) => (deliveries.at(-1)?.at ?? 0) < silentSince);
  const outcomes = await Promise.allSettled(silent.map(async ({ key }) => release(api, key)));
  const failed = outcomes.find(({ status }) => status === "rejected");
  if (failed?.status === "rejected") throw failed.reason;
}
