/** What the checker asks of a deployment's queues: dead letters and releases. */
import { call, type PrivateApiAddress, problem } from "../checker/private-api.ts";
import type { ItemData } from "./receiver.ts";

interface DeadItem {
  readonly id: string;
  readonly key: string;
  readonly number: number;
}

interface DeadLetterPage {
  readonly items: readonly { readonly id: string; readonly key: string; readonly data: Partial<ItemData> | null }[];
  readonly next?: string;
}

/** Items of these keys, in the order of their failures. @throws where a page cannot be read */
export async function deadItems(api: PrivateApiAddress, keys: ReadonlySet<string>): Promise<DeadItem[]> {
  const found: DeadItem[] = [];
  let after = "";
  while (true) {
    const answer = await call(api, `/v1/dead-letters?limit=1000${after}`);
    if (answer.status !== 200) throw new Error(`dead letters: ${problem(answer)}`);
    const { items, next } = answer.body as DeadLetterPage;
    for (const { id, key, data } of items) {
      if (keys.has(key) && data?.n !== undefined) found.push({ id, key, number: data.n });
    }
    if (next === undefined) return found;
    after = `&after=${encodeURIComponent(next)}`;
  }
}

/** Does nothing where it is a dead letter no more. @throws where it is refused */
export async function retryDeadItem(api: PrivateApiAddress, { id, key }: DeadItem): Promise<void> {
  const answer = await call(api, `/v1/dead-letters/${encodeURIComponent(id)}/retry`, {});
  if (answer.status >= 300 && answer.status !== 404) throw new Error(`retry of ${id} of ${key}: ${problem(answer)}`);
}

/** @returns false where the key is neither parked nor delayed. @throws where it is refused */
export async function release(api: PrivateApiAddress, key: string): Promise<boolean> {
  const answer = await call(api, "/v1/queues/release", { key });
  if (answer.status === 404) return false;
  if (answer.status >= 300) throw new Error(`release of ${key}: ${problem(answer)}`);
  return true;
}

/** @param slots ranges. @returns those that are going to move, as ranges. @throws where it is refused */
export async function takeSlots(api: PrivateApiAddress, cell: string, slots: string): Promise<string> {
  const answer = await call(api, `/v1/cells/${cell}/take`, { slots });
  if (answer.status !== 202) throw new Error(`move of slots to ${cell}: ${problem(answer)}`);
  return (answer.body as { slots: string }).slots;
}

/** @throws where it is refused */
export async function abortMoves(api: PrivateApiAddress, cell: string): Promise<void> {
  const answer = await call(api, `/v1/cells/${cell}/abort`, {});
  if (answer.status !== 202) throw new Error(`abort of moves to ${cell}: ${problem(answer)}`);
}

/** @throws where there is no answer */
export async function areSlotsMoving(api: PrivateApiAddress): Promise<boolean> {
  const answer = await call(api, "/v1/cells");
  if (answer.status !== 200) throw new Error(`cells: ${problem(answer)}`);
  return (answer.body as { moves: readonly unknown[] }).moves.length > 0;
}
