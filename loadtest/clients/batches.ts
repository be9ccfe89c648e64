/** Connections that open at the same time: the kernel's queue of a listening port is short. */
const batchSize = 50;

/** Connects for each item, a batch at a time. @returns the results in the order of the items. */
export async function inBatches<Item, Result>(
  items: readonly Item[],
  connect: (item: Item) => Promise<Result>,
): Promise<Result[]> {
  const results: Result[] = [];
  for (let at = 0; at < items.length; at += batchSize) {
    results.push(...(await Promise.all(items.slice(at, at + batchSize).map(connect))));
  }
  return results;
}
