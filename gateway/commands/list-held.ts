/** What this node holds now, for the lists of the private API. */
import type { Inventory, InventoryItem, InventoryQuestion } from "../../shared/inventory/contract.ts";
import type { Service } from "../../shared/runtime/lifecycle.ts";
import { Turns } from "../../shared/runtime/timing.ts";
import type { GatewayContext } from "../node/context.ts";
import type { Session } from "../sessions/session.ts";

type Held = Pick<GatewayContext, "channels" | "sessions">;

/** Answers for this node while it runs. */
export class HeldByNode implements Service {
  readonly #options: Held & { inventory: Inventory; instance: string };
  #end: () => void = () => undefined;

  constructor(options: Held & { inventory: Inventory; instance: string }) {
    this.#options = options;
  }

  async start(): Promise<void> {
    const { inventory, instance } = this.#options;
    this.#end = await inventory.serve(instance, async (question) => listHeld(question, this.#options));
  }

  async stop(): Promise<void> {
    this.#end();
  }
}

async function listHeld(question: InventoryQuestion, { channels, sessions }: Held): Promise<InventoryItem[]> {
  switch (question.kind) {
    case "channels":
      return firstItems(
        channels.followerCounts(),
        ([id]) => id,
        question,
        ([id, count]) => ({ id, count }),
      );
    case "sessions":
      return firstItems(
        eachSession(sessions),
        (session) => (isHere(session) ? session.id : undefined),
        question,
        (session) => ({
          ...identityOf(session),
          id: session.id,
          count: session.subscriptions.size,
          connectedAt: Math.round(Date.now() - (performance.now() - session.openedAt)),
        }),
      );
    case "users":
      return firstItems(
        sessions.byUser,
        ([key, own]) => ([...own].some(isHere) ? key : undefined),
        question,
        ([key, own]) => {
          const [first, ...more] = [...own].filter(isHere);
          return { ...(first && identityOf(first)), id: key, count: 1 + more.length };
        },
      );
  }
}

function* eachSession({ byUser }: Held["sessions"]): Iterable<Session> {
  for (const own of byUser.values()) yield* own;
}

/** A session that moved counts on its new node. */
function isHere(session: Session): boolean {
  return session.welcomed && !session.moved && !session.endedBy;
}

function identityOf({ credentials: { user, tenant } }: Session): Pick<InventoryItem, "user" | "tenant"> {
  return { user, ...(tenant !== undefined && { tenant }) };
}

/**
 * Yields to the event loop at intervals: a node may follow hundreds of thousands of channels. What leaves and returns in
 * the meantime is read twice, and listed once.
 * @param idOf undefined: it is not listed.
 */
async function firstItems<T>(
  all: Iterable<T>,
  idOf: (item: T) => string | undefined,
  { after, limit }: InventoryQuestion,
  toItem: (item: T) => InventoryItem,
): Promise<InventoryItem[]> {
  const turns = new Turns();
  const first: InventoryItem[] = [];
  for (const item of all) {
    await turns.pause();
    const id = idOf(item);
    if (id === undefined || (after !== undefined && id <= after)) continue;
    const place = placeOf(id, first);
    if (place === limit) continue;
    const isListed = first[place]?.id === id;
    first.splice(place, isListed ? 1 : 0, toItem(item));
    if (first.length > limit) first.pop();
  }
  return first;
}

/** Where the id belongs among sorted ones. */
function placeOf(id: string, sorted: readonly { id: string }[]): number {
  let [from, to] = [0, sorted.length];
  while (from < to) {
    const middle = (from + to) >> 1;
    if ((sorted[middle]?.id ?? "") < id) from = middle + 1;
    else to = middle;
  }
  return from;
}
