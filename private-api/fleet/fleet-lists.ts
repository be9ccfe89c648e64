import type { Inventory, InventoryItem, InventoryQuestion } from "../../shared/inventory/contract.ts";
import type { NodeRegistry } from "../../shared/nodes/contract.ts";
import { TidegateError } from "../../shared/runtime/errors.ts";

/** Each costs every node a look at all it holds, in small parts. */
const maxUnderWay = 4;
const retryAfterMs = 1_000;

/** An item of the fleet: of one id, counted on all nodes. */
export interface ListedItem extends InventoryItem {
  /** Nodes that have it. */
  nodes: number;
}

export interface FleetPage {
  items: readonly ListedItem[];
  /** Id of the last item, where more follow. */
  next: string | undefined;
  /** Names of nodes that did not answer: what only they have is not listed. */
  missing: readonly string[];
}

/** Pages of what the nodes of the fleet hold now, in the order of ids. */
export class FleetLists {
  readonly #inventory: Inventory;
  readonly #nodeRegistry: NodeRegistry;
  #underWay = 0;

  constructor(options: { inventory: Inventory; nodeRegistry: NodeRegistry }) {
    this.#inventory = options.inventory;
    this.#nodeRegistry = options.nodeRegistry;
  }

  /**
   * @param node asks the nodes of that name only.
   * @returns undefined where there is no node of that name.
   * @throws TidegateError `rate_limited`, `broker_unavailable`
   */
  async page(question: InventoryQuestion, node?: string): Promise<FleetPage | undefined> {
    if (this.#underWay >= maxUnderWay) {
      throw new TidegateError("rate_limited", `${maxUnderWay} lists are under way already`, { retryAfterMs });
    }
    this.#underWay++;
    try {
      return await this.#ask(question, node);
    } finally {
      this.#underWay--;
    }
  }

  async #ask({ limit, ...question }: InventoryQuestion, name: string | undefined): Promise<FleetPage | undefined> {
    const nodes = (await this.#nodeRegistry.nodes()).filter(({ node }) => name === undefined || node === name);
    if (name !== undefined && nodes.length === 0) return undefined;
    const instances = new Set(nodes.map(({ instance }) => instance));
    const answers = await this.#inventory.ask({ ...question, limit: limit + 1 }, instances);
    const items = merged([...answers.values()].flat());
    const page = items.slice(0, limit);
    return {
      items: page,
      next: items.length > limit ? page.at(-1)?.id : undefined,
      missing: nodes.filter(({ instance }) => !answers.has(instance)).map(({ node }) => node),
    };
  }
}

function merged(found: readonly InventoryItem[]): ListedItem[] {
  const byId = new Map<string, ListedItem>();
  for (const item of found) {
    const known = byId.get(item.id);
    byId.set(item.id, { ...item, count: item.count + (known?.count ?? 0), nodes: 1 + (known?.nodes ?? 0) });
  }
  return [...byId.values()].sort((one, other) => (one.id < other.id ? -1 : 1));
}
