import type * as contract from "./contract.ts";

type Answer = Parameters<contract.Inventory["serve"]>[1];

/** The inventory of a single process. */
export class MemoryInventory implements contract.Inventory {
  /** By instance. */
  readonly #served = new Map<string, Answer>();

  async start(): Promise<void> {}
  async stop(): Promise<void> {}

  async serve(instance: string, answer: Answer): Promise<() => void> {
    this.#served.set(instance, answer);
    return () => void this.#served.delete(instance);
  }

  async ask(question: contract.InventoryQuestion, instances: ReadonlySet<string>): Promise<contract.InventoryAnswers> {
    const asked = [...this.#served].filter(([instance]) => instances.has(instance));
    return new Map(
      await Promise.all(asked.map(async ([instance, answer]) => [instance, await answer(question)] as const)),
    );
  }
}
