/** What the checker asks of a deployment's queues: dead letters and releases. */
import { call, type PrivateApiAddress, problem } from "../checker/private-api.ts";
import type { ItemData } from "./receiver.ts";

interface DeadLetterPage {
  readonly items: readonly { readonly key: string; readonly data: Partial<ItemData> | null }[];
  readonly next?: string;
}

/** Numbers of dead items by key, of these keys. @throws where a page cannot be read */
export async function deadItems(api: PrivateApiAddress, keys: ReadonlySet<string>): Promise<Map<string, number[]>> {
  const found = new Map<string, number[]>();
  let after = "";
  while (true) {
    const answer = await call(api, `/v1/dead-letters?limit=1000${after}`);
    if (answer.status !== 200) throw new Error(`dead letters: ${problem(answer)}`);
    const { items, next } = answer.body as DeadLetterPage;
    for (const { key, data } of items) {
      if (!keys.has(key) || data?.n === undefined) continue;
      const numbers = found.get(key);
      if (numbers) numbers.push(data.n);
      else found.set(key, [data.n]);
    }
    if (next === undefined) return found;
    after = `&after=${encodeURIComponent(next)}`;
  }
}

/** @throws where it is refused */
export async function retryDeadItems(api: PrivateApiAddress, key: string): Promise<void> {
  const answer = await call(api, "/v1/dead-letters/retry", { key });
  if (answer.status >= 300) throw new Error(`retry of the dead letters of ${key}: ${problem(answer)}`);
}

/** @returns false where the key is neither parked nor delayed. @throws where it is refused */
export async function release(api: PrivateApiAddress, key: string): Promise<boolean> {
  const answer = await call(api, "/v1/queues/release", { key });
  if (answer.status === 404) return false;
  if (answer.status >= 300) throw new Error(`release of ${key}: ${problem(answer)}`);
  return true;
}
